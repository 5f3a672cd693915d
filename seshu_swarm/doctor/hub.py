"""The token of the Hugging Face Hub: whether there is one and whether it is taken; never what it is."""

from __future__ import annotations

import os
import threading
from urllib.parse import urlsplit

from seshu_swarm.doctor.findings import Finding, failed, passed, warned

ASK_SECONDS = 5.0
NO_TOKEN = "hf auth login, or set HF_TOKEN"


def check(is_asked: bool) -> Finding:
    """Says nothing to the Hub unless `is_asked`."""
    # Imported here: it reads HF_ENDPOINT when it is imported.
    import huggingface_hub
    from huggingface_hub import constants

    token = huggingface_hub.get_token()
    where = "in HF_TOKEN" if os.environ.get("HF_TOKEN") else "stored by hf auth login"
    endpoint = urlsplit(constants.ENDPOINT).netloc
    if not token or not is_asked:
        return judge_token(where if token else "", is_asked, endpoint)
    return judge_answer(where, endpoint, _answer(token))


def judge_token(where: str, is_asked: bool, endpoint: str) -> Finding:
    if where:
        return passed("hub token", f"{where}, for {endpoint}; not tried (--hub)")
    if is_asked:
        return failed("hub token", "there is none", NO_TOKEN)
    return passed("hub token", "there is none; only --store hub and --hub need one", NO_TOKEN)


def _answer(token: str) -> str:
    """Empty where the Hub knows the token; else the kind of what went wrong, without its text, in
    which a server may repeat the token."""
    outcome: list[str] = []

    def ask() -> None:
        from huggingface_hub import HfApi

        try:
            HfApi(token=token).whoami()
            outcome.append("")
        except Exception as error:  # of the library's many, each means no
            status = getattr(getattr(error, "response", None), "status_code", None)
            outcome.append(f"{type(error).__name__}{f' {status}' if status else ''}")

    # A thread that goes on does not keep the program.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ASK_SECONDS)
    return outcome[0] if outcome else f"no answer in {ASK_SECONDS:g} s"


def judge_answer(where: str, endpoint: str, answer: str) -> Finding:
    if not answer:
        return passed("hub token", f"{where}, and {endpoint} knows it")
    if "401" in answer:
        return failed("hub token", f"{where}, but {endpoint} does not know it", NO_TOKEN)
    return warned(
        "hub token", f"{where}; {endpoint}: {answer}", "check the network, and HF_ENDPOINT"
    )
