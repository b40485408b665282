// Interpreted by Traefik, so it may use nothing but the standard library.
module granary.dev/cluster/traefik/plugin

go 1.26.0
