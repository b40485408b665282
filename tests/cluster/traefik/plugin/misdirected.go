// Package misdirected refuses a request whose Host is not the name its TLS
// connection was opened for. Without it, a connection to one tenant's name
// could carry requests for another's: the certificate is a wildcard, and
// clients reuse connections. The answer, 421, makes a client open a connection
// of its own for that name (RFC 9110, section 15.5.20).
package misdirected

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// Config is empty: there is nothing to choose.
type Config struct{}

// CreateConfig is called by Traefik.
func CreateConfig() *Config { return &Config{} }

// New is called by Traefik once per router.
func New(_ context.Context, next http.Handler, _ *Config, _ string) (http.Handler, error) {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if request.TLS != nil && !strings.EqualFold(hostname(request.Host), request.TLS.ServerName) {
			http.Error(response, "This connection was opened for another host name.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(response, request)
	}), nil
}

// hostname is the Host header without its port and without a final dot.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(host, ".")
}
