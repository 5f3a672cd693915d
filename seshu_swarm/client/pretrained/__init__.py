"""The remote model as transformers sees it.

model      RemoteModelForCausalLM.from_pretrained(LINK): generate(), training at the ends
generation its generate() with sessions      cache      its sessions, one for each row
background one loop, in a thread
"""
