#!/usr/bin/env bash
# Asks, and prints the words as they come; where the line is cut it goes on. It needs curl and jq.
url=http://127.0.0.1:8080

events=$url$(curl -sf $url/v1/streams -d '{"prompt":"Tell me about rivers"}' | jq -r .events_url)
while true; do
  # A line that is cut is none: read says so, and it comes again.
  while IFS= read -r event; do
    [ -n "$event" ] || continue # a sign of life
    jq -j '.data.text // empty' <<<"$event"
    seen=$(jq -r .id <<<"$event")
    [ "$(jq -r .event <<<"$event")" != end ] || exit 0
  done < <(curl -sN "$events?format=ndjson&after=$seen")
  sleep 1
done
