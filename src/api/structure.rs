//! What the API server checks of a schema besides its CEL rules: types, required and unknown fields, limits.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Fields of `metadata` that a person may write.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A path and what is wrong there.
pub(super) type Fault = (String, String);

/// Checks `object` against the schema of its CRD.
pub(super) fn check(schema: &Value, object: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_value(schema, object, "", &mut faults);
    faults
}

/// Removes fields that are `null`, as the API server does where the schema is not nullable.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn check_value(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut fault = |message: String| faults.push((path.to_owned(), message));
    let wanted = schema["type"].as_str().unwrap_or("object");
    if !is_of_type(value, wanted) {
        fault(format!(
            "Invalid value: {}: must be of type {wanted}, not {}",
            shown(value),
            type_of(value)
        ));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        fault(format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            allowed.join(", ")
        ));
    }
    match value {
        Value::String(text) => {
            if schema["format"] == "date-time" && text.parse::<Timestamp>().is_err() {
                fault(format!(
                    "Invalid value: {}: must be a time in RFC 3339, such as 2026-11-21T12:00:00Z",
                    shown(value)
                ));
            }
            let length = text.chars().count() as u64;
            if schema["maxLength"].as_u64().is_some_and(|max| length > max) {
                fault(format!(
                    "Too long: {length} characters; may not be more than {}",
                    schema["maxLength"]
                ));
            }
            if schema["minLength"].as_u64().is_some_and(|min| length < min) {
                fault(format!(
                    "Invalid value: {}: must be at least {} characters long",
                    shown(value),
                    schema["minLength"]
                ));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema["minimum"].as_f64().is_some_and(|min| number < min) {
                fault(format!(
                    "Invalid value: {value}: must be {} or more",
                    limit(&schema["minimum"])
                ));
            }
            if schema["maximum"].as_f64().is_some_and(|max| number > max) {
                fault(format!(
                    "Invalid value: {value}: must be {} or less",
                    limit(&schema["maximum"])
                ));
            }
        }
        Value::Array(items) => check_list(schema, items, path, faults),
        Value::Object(fields) => check_object(schema, fields, path, faults),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_list(schema: &Value, items: &[Value], path: &str, faults: &mut Vec<Fault>) {
    if schema["maxItems"]
        .as_u64()
        .is_some_and(|max| items.len() as u64 > max)
    {
        faults.push((
            path.to_owned(),
            format!(
                "Too many: {}: must have at most {} items",
                items.len(),
                schema["maxItems"]
            ),
        ));
    }
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        check_value(&schema["items"], item, &path, faults);
        if schema["x-kubernetes-list-type"] == "set" && items[..index].contains(item) {
            faults.push((path, format!("Duplicate value: {}", shown(item))));
        }
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) {
    let child = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let properties = schema["properties"].as_object();
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            faults.push((child(name), "Required value".to_owned()));
        }
    }
    for (name, field) in fields {
        match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => check_value(schema, field, &child(name), faults),
            None if path.is_empty() && ["apiVersion", "kind"].contains(&name.as_str()) => {}
            None if path == "metadata" && METADATA.contains(&name.as_str()) => {}
            None => {
                let known = properties
                    .into_iter()
                    .flat_map(Map::keys)
                    .map(String::as_str);
                faults.push((child(name), unknown(name, known)));
            }
        }
    }
}

/// "Unknown field", with what was probably meant.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let close = known
        .map(|other| (distance(name, other), other))
        .filter(|(distance, other)| *distance <= 2 && *distance < other.len())
        .min();
    match close {
        Some((_, other)) => format!("unknown field; did you mean {other:?}?"),
        None => "unknown field".to_owned(),
    }
}

/// How many letters have to be changed, added or removed, in any case, to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn is_of_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "integer" => {
            value.as_i64().is_some() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        other => type_of(value) == other,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A limit as people write it: the schema has whole numbers as `20.0`.
fn limit(limit: &Value) -> String {
    limit
        .as_f64()
        .map_or_else(|| limit.to_string(), |number| number.to_string())
}

/// The value as a message shows it: one line, not too long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_whole_numbers() {
        let schema = serde_json::json!({"type": "integer", "minimum": 1.0, "maximum": 20.0});
        let said = |value: i64| check(&schema, &value.into()).remove(0).1;
        assert_eq!(said(0), "Invalid value: 0: must be 1 or more");
        assert_eq!(said(21), "Invalid value: 21: must be 20 or less");
    }

    #[test]
    fn letters_apart() {
        assert_eq!(distance("plan", "plan"), 0);
        assert_eq!(distance("displayname", "displayName"), 0);
        assert_eq!(distance("plam", "plan"), 1);
        assert_eq!(distance("", "plan"), 4);
    }
}
