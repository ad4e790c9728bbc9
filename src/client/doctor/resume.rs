//! Whether a reader that was cut off comes back behind what it has seen, and is told to stop at the end.

use std::time::Duration;

use serde_json::json;

use super::{Checked, Doctor, Finding, Verdict, within};

const LONG: Duration = Duration::from_secs(90);
/// So much is heard before the cut.
const BEFORE: usize = 5;
const EVENTS: &str = "text/event-stream";

impl Doctor {
    pub(super) async fn resume(&self) -> Checked {
        let check = "resume";
        let fail = |why: String| Finding::new(check, Verdict::Fail, why);
        let words: Vec<_> = (0..30).map(|n| n.to_string()).collect();
        let response = self.start(json!({"text": words.join(" "), "delay": "40ms"}), EVENTS).await?;
        let mut first = super::listen::Listening::new(response);
        while first.words.len() < BEFORE && first.next().await {}
        let (id, seen, half) = (first.id.clone(), first.cursor().to_owned(), first.text.clone());
        let (came, why) = (first.ended, first.broke.take());
        drop(first); // the connection is cut
        let Some(id) = id else {
            return Ok(fail("an answer has no x-stream-id: something on the way takes it out".into()));
        };
        if came || why.is_some() {
            self.remove(Some(&id)).await;
            let how = why.map_or_else(
                || "the whole answer came at once".to_owned(),
                |why| format!("the answer broke off: {why}"),
            );
            return Ok(Finding::new(check, Verdict::Note, format!("{how}, so there was nothing to cut")));
        }
        let path = format!("v1/streams/{id}/events");
        let header = |cursor: &str| [("last-event-id".to_owned(), cursor.to_owned())];
        let response = within(self.client.get(&path, EVENTS, &header(&seen))).await.map_err(fail)?;
        let second = self.hear(response, LONG).await;
        let last = second.cursor().to_owned();
        let state = self.state(&id).await;
        let again = within(self.client.get(&path, EVENTS, &header(&last))).await.map(|response| response.status());
        self.remove(Some(&id)).await;
        if second.started {
            return Ok(fail(
                "a reader that came back began from the start: `Last-Event-ID` does not come through".into(),
            )
            .remedy("hand the header on; or put the cursor into the URL, as `?after=`"));
        }
        if let Some(why) = second.broke {
            return Ok(
                fail(format!("the rest of the answer broke off: {why}")).remedy("see the log of what lies between")
            );
        }
        let state = state?;
        let whole = state["text"].as_str().unwrap_or_default();
        if format!("{half}{}", second.text) != whole {
            return Ok(fail("what was heard before a cut and behind it is not the answer".into()).remedy(
                "something on the way keeps old responses: it must heed `Cache-Control: no-store`, or leave /v1/ alone",
            ));
        }
        if again != Ok(204) {
            let status = again.map_or_else(|why| why, |status| status.to_string());
            return Ok(Finding::new(
                check,
                Verdict::Warn,
                format!("a reader that has seen the end is told {status}, not 204: an EventSource asks for ever"),
            )
            .remedy("hand statuses on as they are"));
        }
        Ok(Finding::new(check, Verdict::Ok, "cut off and resumed: nothing lost, nothing twice"))
    }
}
