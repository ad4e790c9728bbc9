import json, urllib.request as web

url = "http://127.0.0.1:8080/v1/streams"
ask = web.Request(url, json.dumps({"model": "push/mine"}).encode())
stream = f'{url}/{json.load(web.urlopen(ask))["id"]}'

def events():  # your generator: each line is with its readers as soon as it is said
    for word in ["Rivers", " carry", " water."]:
        yield json.dumps({"text": word}).encode() + b"\n"
    yield json.dumps({"event": "end", "data": {"status": "completed"}}).encode() + b"\n"

web.urlopen(web.Request(f"{stream}/events?at=0", events(), {"content-type": "application/x-ndjson"}))
print(json.load(web.urlopen(stream))["text"])
