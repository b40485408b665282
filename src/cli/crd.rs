//! `granary crd`: the custom resource definitions, as the chart installs them.

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::exit::Exit;
use super::failure::Failure;
use super::globals::Output;
use super::printer::{Printer, View};
use super::table::{Grid, Tone};
use crate::api;

/// Print the custom resource definitions (YAML unless told otherwise)
#[derive(Args, Debug)]
pub struct CrdArgs {}

struct Definitions(Vec<CustomResourceDefinition>);

impl Serialize for Definitions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_struct("List", 3)?;
        list.serialize_field("apiVersion", "v1")?;
        list.serialize_field("kind", "List")?;
        list.serialize_field("items", &self.0)?;
        list.end()
    }
}

impl View for Definitions {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["NAME", "KIND", "SCOPE", "VERSIONS"]);
        for crd in &self.0 {
            let versions: Vec<&str> = crd
                .spec
                .versions
                .iter()
                .map(|version| version.name.as_str())
                .collect();
            grid.row([
                (crd.name_any(), Tone::Plain),
                (crd.spec.names.kind.clone(), Tone::Plain),
                (crd.spec.scope.clone(), Tone::Plain),
                (versions.join(","), Tone::Plain),
            ]);
        }
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|crd| {
                format!(
                    "customresourcedefinition.apiextensions.k8s.io/{}",
                    crd.name_any()
                )
            })
            .collect()
    }
}

/// Runs `granary crd`. Its table would hide what it is for, so it prints YAML unless told otherwise.
pub fn run(_args: &CrdArgs, printer: Printer) -> Result<(), Failure> {
    match printer.output() {
        Output::Table | Output::Yaml => {
            let stream = api::crds_yaml().map_err(|error| {
                Failure::new(Exit::Failure, "cannot encode the definitions").why(error.to_string())
            })?;
            printer.data(&stream)
        }
        Output::Wide | Output::Json | Output::Name => printer.show(&Definitions(api::crds())),
    }
}
