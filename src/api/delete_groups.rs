//! DeleteGroups: answered when the deletions are committed.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::ApiContext;
use crate::engine::group::{self, Answer};
use crate::model::ErrorCode;
use crate::protocol::delete_groups::{DeletableGroupResult, Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut named = HashSet::new();
    let names = request.groups_names.into_iter();
    let names = names.filter(|name| named.insert(name.clone()));
    let deleted = names.map(|group_id| async {
        let error_code = delete(context, &group_id).await;
        DeletableGroupResult {
            group_id,
            error_code,
        }
    });
    Response {
        results: join_all(deleted).await,
        ..Default::default()
    }
}

async fn delete(context: &ApiContext, group: &str) -> ErrorCode {
    if group.is_empty() {
        return ErrorCode::InvalidGroupId;
    }
    let delete = group::Request::Delete(group.into());
    match context.groups.ask_to_write(group, delete).await {
        Ok(Answer::Code(code)) | Err(code) => code,
        Ok(_) => ErrorCode::UnknownServerError,
    }
}
