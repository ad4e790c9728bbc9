/** Asks, and reads the answer. @param {string | Record<string, any>} request a prompt, or the body of `POST /v1/streams` @param {Options} [options] */
export function ask(request: string | Record<string, any>, options?: Options): Answer;
/** Reads an answer that was asked for before, from its beginning or behind `after`. @param {string} stream its id, or its `events_url` @param {Options} [options] */
export function read(stream: string, options?: Options): Answer;
/** Any other call of the API: `call('v1/models')`. Gives its JSON. @param {string} path @param {Options & { method?: string, body?: any }} [options] @returns {Promise<any>} */
export function call(path: string, { method, body, ...options }?: Options & {
    method?: string;
    body?: any;
}): Promise<any>;
/** A refusal, or no answer at all (`status` 0). Branch on `code`. */
export class Problem extends Error {
    /** @param {{ status?: number, code?: string, title?: string, detail?: string, field?: string, remedy?: string, retryAfter?: number }} problem */
    constructor({ status, code, title, detail, field, remedy, retryAfter }: {
        status?: number;
        code?: string;
        title?: string;
        detail?: string;
        field?: string;
        remedy?: string;
        retryAfter?: number;
    });
    /** HTTP's, or 0 */
    status: number;
    code: string;
    /** which member of the request it is about */
    field: string | undefined;
    remedy: string | undefined;
    /** in ms, 0 if it was not said */
    retryAfter: number;
}
/** One answer, being read. What it says of itself is always what the log has up to `cursor`. */
export class Answer {
    /**
     * Of a stream that is there (its id, or its `events_url`), or of one that is asked for (a prompt, or a request). It begins with `open()`.
     * @param {{ stream: string } | { request: string | Record<string, any> }} what @param {Options} [options]
     */
    constructor(what: {
        stream: string;
    } | {
        request: string | Record<string, any>;
    }, options?: Options);
    /** @type {string | null} */ id: string | null;
    /** @type {State} */ state: State;
    text: string;
    reasoning: string;
    /** @type {ToolCall[]} */ toolCalls: ToolCall[];
    /** Of the newest event. @type {string | null} */ cursor: string | null;
    /** How it ended. @type {End | null} */ end: End | null;
    /** Why it failed. @type {Problem | null} */ error: Problem | null;
    /** Why it is waiting. @type {unknown} */ trouble: unknown;
    resumes: number;
    repeats: number;
    /** Begins; comes back at once from a pause or a wait; looks whether the line still is one. For apps that were asleep. */
    open(): this;
    /** Leaves until `open()`. The answer goes on. */
    pause(): void;
    /** Leaves for good. The answer goes on: `cancel()` stops it. */
    close(): void;
    /** The stream's id, when there is one: for the page's URL, say. */
    begun(): Promise<string>;
    /** Stops the answer; what was said stands. Gives the stream's state. @returns {Promise<Record<string, any>>} */
    cancel(): Promise<Record<string, any>>;
    /** What the log has: `{ status, text, cursor, usage, timings, … }`. @returns {Promise<Record<string, any>>} */
    fetchState(): Promise<Record<string, any>>;
    /** The end, when it is there; that of an answer that failed, too. @returns {Promise<End>} */
    done(): Promise<End>;
    /** Tells each event, and null when anything else has changed. @param {(event: AnswerEvent | null) => void} listener */
    subscribe(listener: (event: AnswerEvent | null) => void): () => void;
    /** All events from the first. Who leaves the loop leaves the line, if nobody else listens. @returns {AsyncGenerator<AnswerEvent, void, void>} */
    [Symbol.asyncIterator](): AsyncGenerator<AnswerEvent, void, void>;
    #private;
}
export type ToolCall = {
    id?: string;
    name?: string;
    index: number;
    arguments: string;
};
export type Failure = {
    code: string;
    message: string;
    retryable: boolean;
    type?: string;
    upstream_status?: number;
    request_id?: string;
    retry_after?: number;
};
export type Status = "completed" | "failed" | "cancelled" | "interrupted";
export type End = {
    status: Status;
    reason?: string;
    usage?: Record<string, any>;
    error?: Failure;
};
/**
 * What is told. The `id` is the cursor behind it; a `reset` has none. Streams that relay somebody else's events have other names too.
 */
export type AnswerEvent = {
    id: string | null;
} & ({
    name: "message" | "reasoning";
    data: {
        text: string;
    };
} | {
    name: "tool_call";
    data: {
        index: number;
        id?: string;
        name?: string;
        arguments?: string;
    };
} | {
    name: "start";
    data: {
        id: string;
        model: string;
        created_at: string;
        events_url: string;
    };
} | {
    name: "file";
    data: {
        media_type?: string;
        base64?: string;
        url?: string;
        file_id?: string;
    };
} | {
    name: "notice";
    data: {
        kind: string;
        message?: string;
        [more: string]: any;
    };
} | {
    name: "snapshot";
    data: {
        text: string;
        reasoning?: string;
        tool_calls?: ToolCall[];
    };
} | {
    name: "reset";
    data: {
        after: number;
        reason?: string;
    };
} | {
    name: "end";
    data: End;
});
/**
 * `asking` (the answer is not known to have begun), `connecting`, `live`, `waiting` (cut off; see `trouble`), `paused`; for good `ended`
 * (see `end`), `failed` (see `error`), `closed`.
 */
export type State = "idle" | "asking" | "connecting" | "live" | "waiting" | "paused" | "ended" | "failed" | "closed";
export type Options = {
    /**
     * where lastword is: `https://answers.example.com`; by default `/`, the page's own origin
     */
    url?: string | undefined;
    /**
     * a key or token, or what fetches one;
     * that is asked again, with the reason, when what it gave is no longer good. For a reader with a ticket: a new ticket, or `events_url`
     */
    token?: string | ((why?: Problem) => string | undefined | Promise<string | undefined>) | undefined;
    /**
     * sent with every request
     */
    headers?: Record<string, string> | undefined;
    /**
     * instead of the global one
     */
    fetch?: ((url: string, init: any) => Promise<any>) | undefined;
    /**
     * closes the reader, as `close()` does
     */
    signal?: AbortSignal | undefined;
    /**
     * the cursor behind which to read, for who has kept what was before
     */
    after?: string | number | undefined;
    /**
     * all that was said so far comes as one event
     */
    snapshot?: boolean | undefined;
    /**
     * more of the URL's: `{ chunking: 'word', pace: 5 }`
     */
    params?: Record<string, string | number> | undefined;
    /**
     * `auto`: polls where nothing streams
     */
    transport?: "auto" | "stream" | "poll" | undefined;
    /**
     * the Idempotency-Key, for an answer that must not be paid twice even over a reload; by default a new one
     */
    key?: string | undefined;
    /**
     * how often to ask before it fails (5). A stream that is known is never given up
     */
    attempts?: number | undefined;
    /**
     * the first and the longest wait, in ms: [1000, 15000]
     */
    backoff?: [number, number] | undefined;
    /**
     * a line on which nothing came for so long is dead, in ms: 37500, two and a half heartbeats
     */
    silence?: number | undefined;
    /**
     * a line on which nothing has come yet is held back by a proxy, in ms: 5000
     */
    buffered?: number | undefined;
};
