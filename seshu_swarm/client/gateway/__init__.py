"""GATEWAY: the swarm as an HTTP API that OpenAI's clients speak. Loaded only by `client serve`.

serve     the command: join, listen, follow     app        routes
bodies    a request's bytes, within limits      requests   its fields, checked once (pure)
wanted    what a choice asks for (pure)
connection  a head in time, or none              days      tokens of a day, in a file
limits    sessions, requests and tokens (pure)  keys       who may ask (pure)
refusals  every no, in OpenAI's shape           models     the newest revision that is served
generation  scored tokens from a session        choosing   the next token: temperature, top-p
text      whole characters, stops (pure)        choices    the choices of one request, in sessions
journey   who carried a choice, and what happened on the way
completions, chats   the shapes of answers      answering  one request from its key to its end
outlet    JSON or events; ends when the client goes        metrics  Prometheus
"""
