"""How to ask for a translation, in English and in the language itself.

A language that is missing here is asked for in English alone: no wording is better than a wrong
one. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

TO_NATIVE = ("Translate to {name}", "{name} translation", "Say this in {name}", "In {name}")
TO_ENGLISH = ("Translate to English", "English translation", "Say this in English", "In English")
# Language → (from English into it, from it into English), each in the language.
IN_THE_LANGUAGE = {
    "ar": ("ترجم من الإنجليزية إلى العربية", "ترجم من العربية إلى الإنجليزية"),
    "as": ("ইংৰাজীৰ পৰা অসমীয়ালৈ অনুবাদ কৰক", "অসমীয়াৰ পৰা ইংৰাজীলৈ অনুবাদ কৰক"),
    "bn": ("ইংরেজি থেকে বাংলায় অনুবাদ করুন", "বাংলা থেকে ইংরেজিতে অনুবাদ করুন"),
    "es": ("Traduce del inglés al español", "Traduce del español al inglés"),
    "gu": ("અંગ્રેજીમાંથી ગુજરાતીમાં અનુવાદ કરો", "ગુજરાતીમાંથી અંગ્રેજીમાં અનુવાદ કરો"),
    "hi": ("अंग्रेज़ी से हिन्दी में अनुवाद करें", "हिन्दी से अंग्रेज़ी में अनुवाद करें"),
    "kn": ("ಇಂಗ್ಲಿಷ್‌ನಿಂದ ಕನ್ನಡಕ್ಕೆ ಅನುವಾದಿಸಿ", "ಕನ್ನಡದಿಂದ ಇಂಗ್ಲಿಷ್‌ಗೆ ಅನುವಾದಿಸಿ"),
    "ml": (
        "ഇംഗ്ലീഷിൽ നിന്ന് മലയാളത്തിലേക്ക് വിവർത്തനം ചെയ്യുക",
        "മലയാളത്തിൽ നിന്ന് ഇംഗ്ലീഷിലേക്ക് വിവർത്തനം ചെയ്യുക",
    ),
    "mr": ("इंग्रजीतून मराठीत भाषांतर करा", "मराठीतून इंग्रजीत भाषांतर करा"),
    "ne": ("अङ्ग्रेजीबाट नेपालीमा अनुवाद गर्नुहोस्", "नेपालीबाट अङ्ग्रेजीमा अनुवाद गर्नुहोस्"),
    "or": ("ଇଂରାଜୀରୁ ଓଡ଼ିଆକୁ ଅନୁବାଦ କରନ୍ତୁ", "ଓଡ଼ିଆରୁ ଇଂରାଜୀକୁ ଅନୁବାଦ କରନ୍ତୁ"),
    "pa": ("ਅੰਗਰੇਜ਼ੀ ਤੋਂ ਪੰਜਾਬੀ ਵਿੱਚ ਅਨੁਵਾਦ ਕਰੋ", "ਪੰਜਾਬੀ ਤੋਂ ਅੰਗਰੇਜ਼ੀ ਵਿੱਚ ਅਨੁਵਾਦ ਕਰੋ"),
    "ru": ("Переведите с английского на русский", "Переведите с русского на английский"),
    "sa": ("आङ्ग्लभाषातः संस्कृतभाषायाम् अनुवादं कुरुत", "संस्कृतभाषातः आङ्ग्लभाषायाम् अनुवादं कुरुत"),
    "sd": ("انگريزي مان سنڌي ۾ ترجمو ڪريو", "سنڌي مان انگريزي ۾ ترجمو ڪريو"),
    "si": (
        "ඉංග්‍රීසියෙන් සිංහලයට පරිවර්තනය කරන්න",
        "සිංහලයෙන් ඉංග්‍රීසියට පරිවර්තනය කරන්න",
    ),
    "ta": (
        "ஆங்கிலத்திலிருந்து தமிழுக்கு மொழிபெயர்க்கவும்",
        "தமிழிலிருந்து ஆங்கிலத்திற்கு மொழிபெயர்க்கவும்",
    ),
    "te": ("ఆంగ్లం నుండి తెలుగులోకి అనువదించండి", "తెలుగు నుండి ఆంగ్లంలోకి అనువదించండి"),
    "th": ("แปลจากภาษาอังกฤษเป็นภาษาไทย", "แปลจากภาษาไทยเป็นภาษาอังกฤษ"),
    "tr": ("İngilizceden Türkçeye çevirin", "Türkçeden İngilizceye çevirin"),
    "ur": ("انگریزی سے اردو میں ترجمہ کریں", "اردو سے انگریزی میں ترجمہ کریں"),
    "vi": ("Dịch từ tiếng Anh sang tiếng Việt", "Dịch từ tiếng Việt sang tiếng Anh"),
    "zh": ("将英语翻译成中文", "将中文翻译成英语"),
}


@dataclass(frozen=True)
class Wordings:
    """As many ways to ask for the language as for English; the k-th of each belong together."""

    to_native: tuple[str, ...]
    to_english: tuple[str, ...]


def wordings_of(language: str, english_name: str) -> Wordings:
    """Four ways in English and, where it is known, as many turns of the one in the language."""
    to_native = tuple(form.format(name=english_name) for form in TO_NATIVE)
    own = IN_THE_LANGUAGE.get(language)
    if own is None:
        return Wordings(to_native, TO_ENGLISH)
    # Half of all questions are in the language, so that people may ask in it.
    return Wordings(
        to_native + (own[0],) * len(to_native), TO_ENGLISH + (own[1],) * len(TO_ENGLISH)
    )
