// Package adapters opens what rekey.yaml names: providers, stores and channels, and the activities over them.
package adapters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cloud.google.com/go/auth/credentials"
	"google.golang.org/api/option"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/provider/googlesa"
	"github.com/rekeyhq/rekey/provider/openai"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/googlesm"
	"github.com/rekeyhq/rekey/store/local"
)

// Open makes the adapters that the file names and the activities over them, for a worker: a local store that does not exist
// is made. It asks nobody anything yet. audit gets a record of every change; nil drops them.
func Open(ctx context.Context, c *config.Config, audit *slog.Logger) (*activities.Activities, error) {
	return open(ctx, c, audit, true)
}

// Look does so for somebody who looks, or who brings something to a store that is there: no store is made. One that is not
// on this machine says so when it is used.
func Look(ctx context.Context, c *config.Config) (*activities.Activities, error) {
	return open(ctx, c, nil, false)
}

func open(ctx context.Context, c *config.Config, audit *slog.Logger, create bool) (*activities.Activities, error) {
	a := &activities.Activities{
		Install: c.Install, Providers: map[string]provider.Provider{}, Stores: map[string]store.Store{}, Allow: c.Allow, Audit: audit,
		Limits: map[string]activities.Limit{},
		Keys:   func() []rotation.Key { return c.Keys },
		Index:  &activities.Index{},

		Channels: map[string]activities.Channel{}, UI: c.UI,

		Operators: c.Operators,
	}
	for _, ch := range c.Channels {
		a.Channels[ch.Name] = webhook.New(ch.Options)
	}
	for name, p := range c.Providers {
		opened, err := openProvider(ctx, name, p)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		a.Providers[name], a.Limits[name] = opened, activities.Limit(p.Limit)
	}
	for name, s := range c.Stores {
		opened, err := openStore(ctx, name, s, create)
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", name, err)
		}
		a.Stores[name] = opened
	}
	return a, nil
}

func openProvider(ctx context.Context, name string, p config.Provider) (provider.Provider, error) {
	switch p.Type {
	case config.OpenAI:
		return openai.New(openai.Options{
			Name: name, BaseURL: p.Endpoint, Organization: p.Organization, RequestTimeout: p.RequestTimeout,
			Propagation: orDefault(p.Propagation), RevocationLag: orDefault(p.RevocationLag),
		})
	case config.GoogleServiceAccount:
		client, err := googleCredentials(p.Endpoint)
		if err != nil {
			return nil, err
		}
		return googlesa.New(ctx, googlesa.Options{
			Name: name, Mode: googlesa.Mode(p.Mode), Endpoint: p.Endpoint, TokenURL: p.TokenURL, ClientOptions: client,
			RequestTimeout: p.RequestTimeout, ListLag: orDefault(p.ListLag), Propagation: orDefault(p.Propagation), RevocationLag: orDefault(p.RevocationLag),
		})
	}
	return nil, fmt.Errorf("type %q is not known", p.Type)
}

func openStore(ctx context.Context, name string, s config.Store, create bool) (store.Store, error) {
	switch s.Type {
	case config.GoogleSecretManager:
		client, err := googleCredentials(s.Endpoint)
		if err != nil {
			return nil, err
		}
		return googlesm.New(ctx, googlesm.Options{
			Name: name, Project: s.Project, Endpoint: s.Endpoint, ClientOptions: client, Readers: googlesm.Readers(s.Readers),
			RequestTimeout: s.RequestTimeout, ReadLag: orDefault(s.ReadLag),
		})
	case config.AWSSecretsManager:
		return openAWS(ctx, name, s)
	case config.Local:
		return local.New(local.Options{Name: name, Dir: s.Dir, IdentityFile: s.Identity, CreateIdentity: create})
	}
	return nil, fmt.Errorf("type %q is not known", s.Type)
}

// orDefault is a duration that the file gives. The adapters take 0 for "use your own", a file that says 0 means none.
func orDefault(d *time.Duration) time.Duration {
	switch {
	case d == nil:
		return 0
	case *d == 0:
		return time.Nanosecond
	}
	return *d
}

// googleCredentials are the application default credentials of the worker itself. An endpoint of our own, on
// loopback, takes none.
func googleCredentials(endpoint string) ([]option.ClientOption, error) {
	if endpoint != "" {
		return nil, nil
	}
	creds, err := credentials.DetectDefault(&credentials.DetectOptions{
		Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"},
		// Without one, GOOGLE_SDK_GO_LOGGING_LEVEL=debug would print the exchange of tokens.
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		// The library's text can quote the credentials file.
		return nil, errors.New("this machine has no Google credentials (application default credentials). Run the worker as a service account, or set GOOGLE_APPLICATION_CREDENTIALS")
	}
	return []option.ClientOption{option.WithAuthCredentials(creds)}, nil
}
