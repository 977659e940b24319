//! `/api/v1/orgs` and `/api/v1/places`
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Serialize;
use std::sync::Arc;

use super::Api;
use super::list::{bad, body, path};
use linli_domain::orgs::{Directory, Org, Place};
use linli_domain::rights::Actor;

/// Organisations and places; there is one page.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Entries<T> {
    /// By id.
    items: Vec<T>,
}

/// All organisations.
#[utoipa::path(get, path = "/api/v1/orgs", responses(
    (status = 200, body = Entries<Org>),
    super::auth::Refusals,
))]
pub async fn list(State(api): State<Arc<Api>>) -> Result<Json<Entries<Org>>, Problem> {
    let directory = api.services.directory().await?;
    let items = directory.orgs.values().cloned().collect();
    Ok(Json(Entries { items }))
}

/// All places.
#[utoipa::path(get, path = "/api/v1/places", responses(
    (status = 200, body = Entries<Place>),
    super::auth::Refusals,
))]
pub async fn places(State(api): State<Arc<Api>>) -> Result<Json<Entries<Place>>, Problem> {
    let directory = api.services.directory().await?;
    let items = directory.places.values().cloned().collect();
    Ok(Json(Entries { items }))
}

/// Adds or changes an organisation.
#[utoipa::path(put, path = "/api/v1/orgs/{id}", request_body = Org, params(("id" = String, Path, description = "Id")), responses(
    (status = 200, body = Org),
    super::auth::Refusals,
))]
pub async fn put(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    org: Result<Json<Org>, JsonRejection>,
) -> Result<Json<Org>, Problem> {
    let id = path("id", id)?;
    let org = body(org)?;
    if org.id != id {
        return Err(bad(
            "id",
            format!("the address says {id:?}, the body {:?}", org.id),
        ));
    }
    let object = format!("/api/v1/orgs/{id}");
    let added = |directory: &mut Directory| drop(directory.orgs.insert(id, org.clone()));
    api.services
        .change_directory(&actor, &object, added)
        .await?;
    Ok(Json(org))
}

/// Adds or changes a place.
#[utoipa::path(put, path = "/api/v1/places/{id}", request_body = Place, params(("id" = String, Path, description = "Id")), responses(
    (status = 200, body = Place),
    super::auth::Refusals,
))]
pub async fn put_place(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    place: Result<Json<Place>, JsonRejection>,
) -> Result<Json<Place>, Problem> {
    let id = path("id", id)?;
    let place = body(place)?;
    if place.id != id {
        return Err(bad(
            "id",
            format!("the address says {id:?}, the body {:?}", place.id),
        ));
    }
    let object = format!("/api/v1/places/{id}");
    let added = |directory: &mut Directory| drop(directory.places.insert(id, place.clone()));
    api.services
        .change_directory(&actor, &object, added)
        .await?;
    Ok(Json(place))
}
