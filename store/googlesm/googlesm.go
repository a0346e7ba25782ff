// Package googlesm is the store google-secret-manager: global secrets of Google Secret Manager. A path is the id of
// a secret in one project.
//
// What makes a version the one that applications read is either the alias `current` (Options.Readers "alias") or
// its being the newest ("latest"). The two differ in where a pending value can hide:
//
//   - alias: every value is a version of the one secret. The record is an annotation of it, and the aliases
//     current, previous and pending move together with the record in one UpdateSecret with an etag. Applications
//     must read versions/current. A secret whose applications still read `latest` would show them a pending value
//     the moment it is added, so Check asks for the alias before the first rotation.
//   - latest: a version is published by being added. The record and the pending values live in a second secret,
//     <path>-rekey-pending, and promote copies the value over. Version numbers there are written p1, p2, …
//
// Never is the newest version disabled or destroyed: `latest` means the newest created, whatever its state (Google's
// proto comment), so that would take the key from every application that reads it.
package googlesm

import (
	"context"
	"net/url"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"google.golang.org/api/option"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// Readers says how applications find their value.
type Readers string

const (
	// ReadAlias: by the alias `current`.
	ReadAlias Readers = "alias"
	// ReadLatest: the newest version.
	ReadLatest Readers = "latest"
)

const googleEndpoint = "secretmanager.googleapis.com:443"

// Options set up a Store.
type Options struct {
	// Name is how messages call this store; "google-secret-manager" if empty.
	Name string
	// Project is the id or number of the project that holds the secrets.
	Project string
	// Endpoint is host:port of another Secret Manager, on loopback and without TLS; empty means Google's.
	Endpoint string
	// ClientOptions go to the client; with Google's endpoint they must hold the credentials that rekey itself calls
	// with (option.WithAuthCredentials). Nothing is taken from the environment.
	ClientOptions []option.ClientOption
	// Readers is ReadAlias if empty.
	Readers Readers
	// RequestTimeout bounds one request; 30 s if 0. A method makes a few.
	RequestTimeout time.Duration
	// ReadLag is how long applications may read the former value after Promote; 5 min if 0. Google's docs:
	// aliases and `latest` are eventually consistent, which typically takes minutes and may take a few hours. What
	// says that applications really see the new value is Published, not the passing of this time.
	ReadLag time.Duration
}

// Store keeps values in Google Secret Manager. See store.Store for what its methods promise.
type Store struct {
	readers
	c *client
}

// readers are the methods that depend on how applications read: aliasReaders or latestReaders.
type readers interface {
	store.Store
	store.Dated
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Dated = (*Store)(nil)
)

// New makes a Store. It asks nobody anything yet. A Rejected fault says which option is wrong.
func New(ctx context.Context, o Options) (*Store, error) {
	if o.Name == "" {
		o.Name = "google-secret-manager"
	}
	doing := "set up " + o.Name
	if o.Project == "" {
		return nil, fault.New(fault.Rejected, "no_project", doing).WithAdvice("say in which project the secrets are.")
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 30 * time.Second
	}
	if o.ReadLag == 0 {
		o.ReadLag = 5 * time.Minute
	}
	options, err := googleapi.ClientOptions(googleEndpoint, o.Endpoint, o.ClientOptions, doing)
	if err != nil {
		return nil, err
	}
	sm, dialError := secretmanager.NewClient(ctx, options...)
	if dialError != nil {
		return nil, googleapi.ErrClient(doing)
	}
	// The client retries AccessSecretVersion by itself. Repeating is the caller's business, who knows how long.
	sm.CallOptions = &secretmanager.CallOptions{}
	c := &client{opts: o, sm: sm}
	switch o.Readers {
	case "", ReadAlias:
		return &Store{readers: &aliasReaders{client: c}, c: c}, nil
	case ReadLatest:
		return &Store{readers: &latestReaders{client: c}, c: c}, nil
	default:
		_ = sm.Close()
		return nil, fault.New(fault.Rejected, "bad_readers", doing).WithAdvice("readers is %q or %q.", ReadAlias, ReadLatest)
	}
}

// Close returns the connections back.
func (s *Store) Close() error { return s.c.sm.Close() }

// Capabilities: etags allow compare-and-set.
func (c *client) Capabilities() store.Capabilities {
	return store.Capabilities{CompareAndSet: true, ReadLag: c.opts.ReadLag}
}

// Console is the list of the secret's versions.
func (c *client) Console(path string) string {
	return "https://console.cloud.google.com/security/secret-manager/secret/" + url.PathEscape(path) +
		"/versions?project=" + url.QueryEscape(c.opts.Project)
}
