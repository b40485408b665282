//! YAML that remembers where each value stood.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// A YAML value whose parts know their places.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl Node {
    /// The field of a map.
    pub fn field(&self, name: &str) -> Option<&Spanned<Node>> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, node)| node),
            Self::Leaf(_) | Self::List(_) => None,
        }
    }

    /// The text of a field of a map.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.field(name).map(|node| &node.value) {
            Some(Self::Leaf(Value::String(text))) => Some(text),
            _ => None,
        }
    }

    /// The value without its places.
    pub fn value(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.value()).collect(),
            Self::Map(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, node)| (key.clone(), node.value.value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

pub(super) fn position(node: &Spanned<Node>) -> Position {
    Position {
        line: node.referenced.line(),
        column: node.referenced.column(),
    }
}

/// The places of all values of a document, by path (`spec.domains[1]`).
pub(super) struct Places(HashMap<String, Position>);

impl Places {
    pub fn of(document: &Spanned<Node>) -> Self {
        let mut places = HashMap::new();
        collect(document, String::new(), &mut places);
        Self(places)
    }

    /// The place of the value at `path`, or of what it would be in.
    pub fn find(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            match (self.0.get(path), path.rfind(['.', '['])) {
                (Some(position), _) => return *position,
                (None, Some(end)) => path = &path[..end],
                (None, None) => return self.0.get("").copied().unwrap_or_default(),
            }
        }
    }
}

fn collect(node: &Spanned<Node>, path: String, places: &mut HashMap<String, Position>) {
    match &node.value {
        Node::Leaf(_) => {}
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{index}]"), places);
            }
        }
        Node::Map(fields) => {
            for (key, field) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(field, path, places);
            }
        }
    }
    places.insert(path, position(node));
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(
            Number::from_f64(value).map_or(Value::Null, Value::Number),
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}
