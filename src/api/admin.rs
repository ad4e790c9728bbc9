//! What the operator asks of the store, as HTTP: `lastword store` asks it, and `curl --unix-socket` can.
//!
//! Not among the routes that everybody can reach: it is served on a socket of its own, to whoever may open that file. It knows no
//! owner's bounds, and shows what was said only where that was asked for.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{error::Problem, no_route, wrong_method};
pub use crate::gateway::{Checked, Fault};
use crate::{
    event::{At, Event, PartType, Status},
    gateway::{ClaimKey, ClaimKind, Files, Gateway, StoreError, Stream},
    id::{Cursor, StreamId},
    protocol::native::{self, Answer, rfc3339},
    record::{Kind, Record, summary::Summary},
};

/// The operator's routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/store/stats", get(stats))
        .route("/store/streams", get(list))
        .route("/store/streams/{id}", get(show).delete(remove))
        .route("/store/streams/{id}/records", get(records))
        .route("/store/check", get(check))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

type TheGateway = State<Arc<Gateway>>;
type TheQuery<T> = Result<Query<T>, QueryRejection>;

/// `GET /store/stats`: what the store holds, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// `disk`.
    pub engine: String,
    /// Where it is.
    pub folder: String,
    /// `os`, `disk` or `lazy`.
    pub durability: String,
    /// Streams that have not ended.
    pub running: u64,
    /// Streams that have.
    pub finished: u64,
    /// When the oldest of all was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Bytes kept: what `[store] max_bytes` bounds.
    pub bytes: u64,
    /// Bytes taken on the disk.
    pub files: Files,
    /// Whether a record would be taken now.
    pub writable: bool,
    /// If not, why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
}

async fn stats(State(gateway): TheGateway) -> Result<Json<Stats>, Problem> {
    let stats = gateway.stats().await?;
    Ok(Json(Stats {
        engine: stats.engine.to_string(),
        folder: stats.folder,
        durability: stats.durability.to_string(),
        running: stats.running,
        finished: stats.finished,
        oldest: stats.oldest.map(rfc3339),
        bytes: stats.bytes,
        files: stats.files,
        writable: stats.refuses.is_none(),
        refuses: stats.refuses,
    }))
}

/// A stream in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its id.
    pub id: StreamId,
    /// `running`, or how it ended.
    pub status: String,
    /// When it was created.
    pub created_at: String,
    /// Who created it; empty while authentication is off.
    pub owner: String,
    /// What it counts in the store.
    pub bytes: u64,
    /// How many records it has.
    pub records: u64,
    /// The model as it was asked for.
    pub model: String,
}

/// `GET /store/streams`: a page of the streams, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// The streams.
    pub streams: Vec<Listed>,
    /// What to give as `before` for the next page; nothing if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<StreamId>,
}

/// How many streams a page has at most.
pub const PAGE: usize = 1000;

#[derive(Debug, Deserialize)]
struct Which {
    owner: Option<String>,
    #[serde(default)]
    running: bool,
    before: Option<StreamId>,
    limit: Option<usize>,
}

async fn list(State(gateway): TheGateway, which: TheQuery<Which>) -> Result<Json<Listing>, Problem> {
    let Query(Which { owner, running, before, limit }) = which?;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let mut streams = gateway.all(owner.as_deref(), running, before, limit + 1).await?;
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().map(|last| last.meta.id).filter(|_| more);
    Ok(Json(Listing { streams: streams.into_iter().map(listed).collect(), next }))
}

fn listed(Stream { meta, begin, summary, .. }: Stream) -> Listed {
    let lost =
        meta.hole.filter(|(_, behind)| *behind <= meta.last).map_or(0, |(before, behind)| behind.0 - before.0 - 1);
    Listed {
        id: meta.id,
        status: summary.and_then(|summary| summary.status).map_or("running", Status::as_str).to_owned(),
        created_at: rfc3339(meta.created_at),
        owner: meta.owner,
        bytes: meta.bytes,
        records: meta.last.0 - lost,
        model: begin.model,
    }
}

/// `GET /store/streams/{id}`: all that is known of a stream.
#[derive(Serialize)]
struct Shown {
    /// As its owner is shown it; what was said with `?text=true`.
    #[serde(flatten)]
    state: native::State,
    owner: String,
    protocol: String,
    bytes: u64,
    /// How many records there are of each kind.
    records: BTreeMap<Kind, u64>,
    /// Cursors that were lost: the last one before, the first one after.
    #[serde(skip_serializing_if = "Option::is_none")]
    hole: Option<(Cursor, Cursor)>,
    /// What it was created with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claims: Vec<Claimed>,
    /// Why its log could not be read to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "kind", content = "key", rename_all = "lowercase")]
enum Claimed {
    Idempotency(String),
    Chat(String),
}

#[derive(Debug, Deserialize)]
struct HowMuch {
    #[serde(default)]
    text: bool,
}

async fn show(
    State(gateway): TheGateway,
    Path(id): Path<String>,
    query: TheQuery<HowMuch>,
) -> Result<Json<Shown>, Problem> {
    let (id, Query(HowMuch { text })) = (named(&id)?, query?);
    let Stream { meta, begin, summary, .. } = gateway.known(id).await.map_err(problem)?;
    let (mut answer, mut known, mut records) = (Answer::default(), Summary::default(), BTreeMap::new());
    let read = gateway.records(id, Cursor::START, meta.last, |cursor, record| {
        answer.take(record);
        known.take_record(cursor, record);
        *records.entry(record.head.kind).or_default() += 1;
    });
    let damage = read.await.err().map(|error| error.to_string());
    let protocol = begin.protocol.clone();
    let mut state = native::State::new(id, meta.created_at, begin, summary.unwrap_or(known), text.then_some(answer));
    // The client's labels are its own words too.
    state.metadata = state.metadata.filter(|_| text);
    Ok(Json(Shown {
        state,
        owner: meta.owner,
        protocol: protocol.into_owned(),
        bytes: meta.bytes,
        records,
        hole: meta.hole,
        claims: meta.claims.into_iter().map(|claim| claimed(claim.key)).collect(),
        damage,
    }))
}

fn claimed(claim: ClaimKey) -> Claimed {
    match claim.kind {
        ClaimKind::Idempotency => Claimed::Idempotency(claim.key),
        ClaimKind::Chat => Claimed::Chat(claim.key),
    }
}

/// `GET /store/streams/{id}/records?after=0`: the next records, one a line; an empty body at the end.
#[derive(Serialize)]
struct Shape<'a> {
    cursor: Cursor,
    /// Milliseconds since the stream began.
    ms: u32,
    kind: Kind,
    #[serde(flatten)]
    place: Option<Place>,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Place {
    choice: u8,
    part: u16,
    of: PartType,
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: Cursor,
}

async fn records(
    State(gateway): TheGateway,
    Path(id): Path<String>,
    query: TheQuery<After>,
) -> Result<Response, Problem> {
    let (id, Query(After { after })) = (named(&id)?, query?);
    let page = gateway.page(id, after).await.map_err(problem)?;
    let mut lines = Vec::new();
    for (cursor, bytes) in page.records() {
        let torn = |why: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("record {cursor} of stream {id} cannot be read: {why}"))
        };
        let record = Record::parse(bytes).map_err(|bad| torn(&bad))?;
        let Record { head, payload } = record;
        let data: Box<RawValue> = match record.event().map_err(|bad| torn(&bad))? {
            // Whose payload may be its data itself.
            Event::Custom(custom) => serde_json::value::to_raw_value(&custom),
            _ => serde_json::from_slice(payload),
        }
        .map_err(|bad| torn(&bad))?;
        let At { choice, part, of } = head.at;
        let place = head.kind.is_of_a_part().then_some(Place { choice, part, of });
        let line = Shape { cursor, ms: head.ms, kind: head.kind, place, data: &data };
        serde_json::to_writer(&mut lines, &line).map_err(|bad| torn(&bad))?;
        lines.push(b'\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// `DELETE /store/streams/{id}`: erases it; if it runs, it is cancelled before.
async fn remove(State(gateway): TheGateway, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    gateway.erase(named(&id)?).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /store/check`: whether what is kept is whole.
async fn check(State(gateway): TheGateway) -> Result<Json<Checked>, Problem> {
    Ok(Json(gateway.check().await?))
}

fn named(id: &str) -> Result<StreamId, Problem> {
    id.parse().map_err(|_| Problem::no_stream(id).remedy(LIST))
}

const LIST: &str = "lastword store ls lists those there are";

fn problem(error: StoreError) -> Problem {
    let absent = matches!(error, StoreError::Unknown(_) | StoreError::Expired(_));
    let problem = Problem::from(error);
    if absent { problem.remedy(LIST) } else { problem }
}
