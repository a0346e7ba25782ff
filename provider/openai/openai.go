// Package openai keeps the project keys of OpenAI whose making and revoking is left to a person: rekey reads
// the new key that a person hands over, proves it, and proves that the old one is dead.
//
// Everything that it asks is one request, list models, through github.com/sashabaranov/go-openai.
package openai

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
)

const (
	defaultBaseURL        = "https://api.openai.com/v1"
	defaultConsole        = "https://platform.openai.com/settings"
	defaultRequestTimeout = 30 * time.Second
	// OpenAI documents no time for a new key; its SDK speaks of authentication caches, its users of a minute.
	defaultPropagation = 2 * time.Minute
	// OpenAI's API overview: a revoked key stops within seconds, most updates of keys within 15 minutes. Users
	// report deleted keys that went on working for a while, so the longer one counts.
	defaultRevocationLag = 15 * time.Minute
)

// Options configure a Provider. The zero value is the real OpenAI.
type Options struct {
	// Name is how messages call this provider; empty means "openai".
	Name string
	// BaseURL is the address of the API with its version, without a trailing path; empty means
	// https://api.openai.com/v1. Plain http is allowed to loopback only: the key travels in every request.
	BaseURL string
	// RequestTimeout bounds one request; 0 means 30 s.
	RequestTimeout time.Duration
	// Propagation is how long a good new key may be refused; 0 means 2 minutes.
	Propagation time.Duration
	// RevocationLag is how long a revoked key may still be accepted; 0 means 15 minutes.
	RevocationLag time.Duration
	// Organization is the id (`org-…`) that every request names; empty leaves it to the key.
	Organization string
	// ConsoleURL is where a person manages the keys, as it is shown; empty means the project's page at OpenAI.
	ConsoleURL string
	// Transport carries the requests; nil means to BaseURL, through the proxy that HTTPS_PROXY and NO_PROXY name, if they do.
	// What the proxy carries is encrypted for BaseURL; loopback is never proxied.
	Transport http.RoundTripper
}

// Provider is OpenAI with a person at its console. It cannot list, mint, disable or delete.
type Provider struct {
	provider.Unsupported
	options Options
	client  *http.Client
}

var _ provider.Provider = (*Provider)(nil)

// account is a project id. What else is in the configuration would travel in a header.
var account = regexp.MustCompile(`^proj_[A-Za-z0-9_-]{1,128}$`)

// New checks the options and makes a Provider; it asks nobody. A bad option is a Rejected fault.
func New(o Options) (*Provider, error) {
	if o.Name == "" {
		o.Name = "openai"
	}
	for into, standard := range map[*time.Duration]time.Duration{
		&o.RequestTimeout: defaultRequestTimeout, &o.Propagation: defaultPropagation, &o.RevocationLag: defaultRevocationLag,
	} {
		if *into < 0 {
			return nil, fault.New(fault.Rejected, "bad_option", "set up provider "+o.Name).WithAdvice("A time cannot be negative.")
		}
		if *into == 0 {
			*into = standard
		}
	}
	if o.BaseURL == "" {
		o.BaseURL = defaultBaseURL
	}
	if !safe(o.BaseURL) {
		return nil, fault.New(fault.Rejected, "bad_option", "set up provider "+o.Name).
			WithAdvice("The base address must be https://host/path, without user, query or fragment; plain http goes to loopback only.")
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
			// A transport repeats a read by itself when a connection that it had kept turns out to be broken.
			DisableKeepAlives: true,
		}
	}
	return &Provider{
		Unsupported: provider.Unsupported{Name: o.Name},
		options:     o,
		client: &http.Client{
			Transport: o.Transport,
			// A redirect would carry the key to an address that nobody has configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Capabilities say that a person makes and revokes the keys.
func (p *Provider) Capabilities() provider.Capabilities {
	return provider.Capabilities{
		RequestTimeout: p.options.RequestTimeout, Propagation: p.options.Propagation, RevocationLag: p.options.RevocationLag,
	}
}

// Console is the page of the project's keys; the organization's if projectID is not a project id.
func (p *Provider) Console(projectID string) string {
	switch {
	case p.options.ConsoleURL != "":
		return p.options.ConsoleURL
	case account.MatchString(projectID):
		return defaultConsole + "/" + projectID + "/api-keys"
	default:
		return defaultConsole + "/organization/api-keys"
	}
}

// safe reports whether keys may travel to address.
func safe(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	if u.Scheme == "http" {
		ip, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	}
	return u.Scheme == "https"
}
