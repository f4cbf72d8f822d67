//! The OpenAPI document (version 3.1.0, <https://spec.openapis.org/oas/v3.1.0>), derived from the types of the routes.
//!
//! Answers are described as they are written and share their schemas; questions as they are read, each for itself,
//! because what may be left out differs between the two.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::model::ApiError;

/// The document while routes are added.
pub(super) struct Document {
    paths: Map<String, Value>,
    answers: SchemaGenerator,
}

/// Makes the schema of a body.
type Describe = fn(&mut SchemaGenerator) -> Value;

/// What there is to know of one route.
pub(super) struct Description {
    method: &'static str,
    path: &'static str,
    operation: Map<String, Value>,
    /// Content type of a good answer and the schema of its body.
    answer: Option<(&'static str, Describe)>,
}

impl Description {
    pub(super) fn get(path: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, summary)
    }

    pub(super) fn post(path: &'static str, summary: &'static str) -> Self {
        Self::new("post", path, summary)
    }

    fn new(method: &'static str, path: &'static str, summary: &'static str) -> Self {
        let mut operation = Map::new();
        operation.insert("operationId".into(), operation_id(path).into());
        operation.insert("summary".into(), summary.into());
        Self { method, path, operation, answer: None }
    }

    /// Takes the fields of `Q` as parameters of the query.
    pub(super) fn takes_query<Q: JsonSchema>(mut self) -> Self {
        let schema = question::<Q>();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let parameters = fields.into_iter().map(|(name, mut schema)| {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str().into()),
                "description": description.unwrap_or_default(),
                "schema": schema,
            })
        });
        self.operation.insert("parameters".into(), parameters.collect());
        self
    }

    /// Takes a `B` as the body.
    pub(super) fn takes_json<B: JsonSchema>(self) -> Self {
        self.body::<B>(true)
    }

    /// Takes a `B` as the body, or none.
    pub(super) fn may_take_json<B: JsonSchema>(self) -> Self {
        self.body::<B>(false)
    }

    fn body<B: JsonSchema>(mut self, required: bool) -> Self {
        let body =
            json!({"required": required, "content": {"application/json": {"schema": question::<B>()}}});
        self.operation.insert("requestBody".into(), body);
        self
    }

    /// Answers with an `A`.
    pub(super) fn answers_json<A: JsonSchema>(mut self) -> Self {
        self.answer = Some(("application/json", |answers| answers.subschema_for::<A>().to_value()));
        self
    }

    /// Answers with a text.
    pub(super) fn answers_text(mut self) -> Self {
        self.answer = Some(("text/plain", |_| json!({"type": "string"})));
        self
    }

    /// Answers with a stream, in which the data of every message is the JSON of an `E`.
    pub(super) fn answers_events<E: JsonSchema>(mut self) -> Self {
        self.answer = Some(("text/event-stream", |answers| {
            let event = answers.subschema_for::<E>();
            json!({
                "type": "string",
                "description": "Server-sent events; the data of each is described by contentSchema.",
                "contentMediaType": "application/json",
                "contentSchema": event,
            })
        }));
        self
    }
}

impl Document {
    pub(super) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12().for_serialize();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        Self { paths: Map::new(), answers: settings.into_generator() }
    }

    pub(super) fn add(&mut self, description: Description) {
        let Description { method, path, mut operation, answer } = description;
        let mut responses = Map::new();
        if let Some((content_type, schema)) = answer {
            let schema = schema(&mut self.answers);
            responses.insert("200".into(), content("Done.", content_type, &schema));
        }
        let refusal = self.answers.subschema_for::<ApiError>().to_value();
        responses.insert("default".into(), content("Refused.", "application/json", &refusal));
        operation.insert("responses".into(), responses.into());
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation.into();
    }

    pub(super) fn finish(mut self) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "vip-lb",
                "description": "The control API of the vip-lb daemon, over its unix socket and, where configured, over TCP on loopback. \
                    Times are seconds since the Unix epoch unless their names say otherwise, rates are per second, sizes are bytes.",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            // Over the unix socket nothing is asked for: its mode says who may.
            "security": [{}, {"token": []}],
            "paths": self.paths,
            "components": {
                "schemas": self.answers.take_definitions(true),
                "securitySchemes": {"token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of `node.api.token_file`; only over TCP.",
                }},
            },
        })
    }
}

/// The schema of what is read, without references.
fn question<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn content(description: &str, content_type: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {content_type: {"schema": schema}}})
}

/// `/v1/status` is `status`, `/openapi.json` is `openapi_json`.
fn operation_id(path: &str) -> String {
    path.trim_start_matches("/v1").trim_matches('/').replace(['/', '.', '-'], "_")
}
