//! The style sheet and the icon. Their addresses change with their contents, so that browsers may keep them for ever.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;

const STYLE: &str = include_str!("../../assets/book.css");
const ICON: &str = include_str!("../../assets/icon.svg");

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

pub(super) async fn style() -> impl IntoResponse {
    (kept_for_ever("text/css; charset=utf-8"), STYLE)
}

pub(super) async fn icon() -> impl IntoResponse {
    (kept_for_ever("image/svg+xml"), ICON)
}

fn kept_for_ever(content_type: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
    ]
}
