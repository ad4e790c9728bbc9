//! A reader that waits costs nothing.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Wake, Waker},
};

use bytesize::ByteSize;
use futures_util::StreamExt;
use tokio::time::advance;

use super::*;
use crate::{
    api::{Settings, shared::tests::Log},
    event::{At, Chunking, Delta},
    protocol::native::{Chunks, Native, Text},
    template::Templates,
};

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn api(log: &Log) -> Arc<Api> {
    let second = Duration::from_secs(1);
    let settings = Settings {
        ai_sdk: Default::default(),
        hosts: None,
        heartbeat: second,
        retry: (second, second),
        commit_after: second,
        max_body: ByteSize(0),
        max_upload: ByteSize(0),
        body_timeout: second,
        cors: Vec::new(),
    };
    let auth = Arc::new(crate::auth::Auth::new(crate::auth::Config::default(), None).expect("a secret"));
    Arc::new(Api::new(log.gateway.clone(), Arc::new(Templates::new("none".into())), auth, settings))
}

/// Text has no sign of life; a timer that rings all the same must not ring for ever.
#[tokio::test(start_paused = true)]
async fn a_reader_of_text_sleeps_through_a_silence() {
    for paced in [false, true] {
        let mut log = Log::new().await;
        log.append(&[Event::Delta(At::default(), Delta { text: "one".into(), logprobs: None })]).await;
        let api = api(&log);
        let seat = Seat::take(&api, &Caller::nobody(), log.id, None, Connection::default()).await.expect("attached");
        let (native, nothing) = (Native::short().written(Text::default()), |_: &Known, _| Some(Bytes::new()));
        let response = match paced {
            true => seat.relay_paced(&api, Chunks::new(native, Chunking::Token), nothing, Heartbeat::default(), 10.0),
            false => seat.relay(&api, native, nothing, Heartbeat::default()).await.expect("readable"),
        };
        let mut body = response.into_body().into_data_stream();
        assert_eq!(body.next().await.expect("words").expect("sound"), "one");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut next = pin!(body.next());
        for _ in 0..5 {
            advance(Duration::from_secs(3)).await;
            let before = woken.0.load(SeqCst);
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(woken.0.load(SeqCst), before, "it does not wake itself");
        }
    }
}
