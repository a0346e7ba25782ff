// Package adapters opens what rekey.yaml names: providers, stores and channels.
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
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/provider/googlesa"
	"github.com/rekeyhq/rekey/provider/openai"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/googlesm"
	"github.com/rekeyhq/rekey/store/local"
	"github.com/rekeyhq/rekey/worker/engine"
)

// Open makes what the workers of the file work with: its adapters and its channels. A local store that does not exist is
// created. Nothing is asked over the network yet. audit gets a record of every change; nil drops them. Its errors name the
// provider or store whose settings or credentials cannot be used; repeating it does not help.
func Open(ctx context.Context, c *config.Config, audit *slog.Logger) (*engine.Setup, error) {
	if audit == nil {
		audit = slog.New(slog.DiscardHandler)
	}
	e, err := open(ctx, c, audit, true)
	if err != nil {
		return nil, err
	}
	s := &engine.Setup{Environment: e, Channels: map[string]notify.Channel{}, UI: c.UI, Limits: map[string]engine.Limit{}}
	for _, ch := range c.Channels {
		s.Channels[ch.Name] = webhook.New(ch.Options)
	}
	for name, p := range c.Providers {
		s.Limits[name] = engine.Limit(p.Limit)
	}
	return s, nil
}

// Look makes the adapters of the file for somebody who looks, or who adds a value to a store that exists: no store is
// created. One that is not on this machine fails when it is used. Its errors are those of Open.
func Look(ctx context.Context, c *config.Config) (*activities.Environment, error) {
	return open(ctx, c, slog.New(slog.DiscardHandler), false)
}

func open(ctx context.Context, c *config.Config, audit *slog.Logger, create bool) (*activities.Environment, error) {
	e := &activities.Environment{
		Install: c.Install, Providers: map[string]provider.Provider{}, Stores: map[string]store.Store{}, Allow: c.Allow,
		Keys: func() []rotation.Key { return c.Keys }, Operators: c.Operators, Now: time.Now, Audit: audit,
	}
	for name, p := range c.Providers {
		opened, err := openProvider(ctx, name, p)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		e.Providers[name] = opened
	}
	for name, s := range c.Stores {
		opened, err := openStore(ctx, name, s, create)
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", name, err)
		}
		e.Stores[name] = opened
	}
	return e, nil
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

// orDefault is a duration that the file names. The adapters take 0 for "use your own", a file that says 0 means none.
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
