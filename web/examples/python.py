import http.client, json, time, urllib.request as web

url = "http://127.0.0.1:8080"
ask = web.Request(url + "/v1/streams", json.dumps({"prompt": "Tell me about rivers"}).encode())
events, seen = url + json.load(web.urlopen(ask))["events_url"], ""
while True:
    try:
        with web.urlopen(web.Request(events, headers={"Last-Event-ID": seen})) as answer:
            if answer.status == 204:  # all was seen
                break
            data = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "data":
                    data = json.loads(value)
                elif name == "id":  # the event is whole
                    print(data.pop("text", ""), end="", flush=True)
                    seen = value
    except (OSError, http.client.HTTPException):
        time.sleep(1)  # cut off: go on behind what was seen
