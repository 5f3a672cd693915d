"""CLIENT: users. Text across the swarm.

__main__   the command line                 config      settings of every command
chain/     one session over a chain of peers, which may leave, fall silent or die
remote/    the model whose blocks live there, conversations in tokens, gradients
pretrained/  the same as transformers sees it: RemoteModelForCausalLM.from_pretrained(LINK)
terminal/  the commands of a person at a terminal
gateway/   `serve`: the swarm as an HTTP API
chat_page/ the page at its `/`
dashboard  `status --web`: the run as a page, from signed records and the public ledger
evaluating `evaluate` of a folder or of a join link
"""
