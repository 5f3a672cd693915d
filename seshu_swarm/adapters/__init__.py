"""LoRA adapters: from a donor's folder on disk to ΔW, and from many ΔW to one.

    rules        what an adapter may contain         refusals  the strict reader's names for no
    header       our check of a safetensors header   delta     ΔW = s·B·A in float64
    lora_config  our check of adapter_config.json    sketch    256 numbers that find copies
    reader       a folder becomes an `Adapter`       controls  null, noise, duplicate candidates
    clipping     a limit on the norm of a ΔW
    merge/       one method per file, one registry

Knows no author, no network and no model: only shapes.
"""
