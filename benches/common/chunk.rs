//! One token of a Chat Completions answer.

/// A token as vLLM and OpenAI write it.
pub(crate) fn chunk(text: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-7c1e6b6d0a5b4f0e9c0d6a8b1f2e3d4c","object":"chat.completion.chunk","created":1790000000,"model":"gemma-3-270m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":null}}]}}"#
    )
}
