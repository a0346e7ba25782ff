package auditor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"google.golang.org/api/option"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/provider/googlesa"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/awssm"
	"github.com/rekeyhq/rekey/store/googlesm"
	"github.com/rekeyhq/rekey/store/local"
)

// Agent is the user agent of the applications' requests, and of the auditor's.
const Agent = "an-application/1"

// patience bounds one request of an application.
const patience = 10 * time.Second

// Clients are how applications reach the world.
type Clients struct {
	// Stores are those that they read, by name.
	Stores map[string]store.Store
	// Use makes a request with a value. An error means that it was not answered.
	Use func(context.Context, secret.Value) (accepted bool, err error)
	// List is the provider's list of the key's account; nil if it has none.
	List func(context.Context) ([]provider.Key, error)

	closers []func()
}

// Close ends the connections.
func (c *Clients) Close() {
	for _, f := range c.closers {
		f()
	}
}

// Dial makes the official clients of what rekey.yaml says that a key is in.
func Dial(ctx context.Context, cfg *config.Config, key rotation.Key) (*Clients, error) {
	c := &Clients{Stores: map[string]store.Store{}}
	for _, l := range key.Stores {
		var err error
		if c.Stores[l.Store], err = c.open(ctx, l.Store, cfg.Stores[l.Store]); err != nil {
			c.Close()
			return nil, err
		}
	}
	transport := &http.Transport{}
	client := &http.Client{Transport: named{transport}, Timeout: patience}
	c.closers = append(c.closers, transport.CloseIdleConnections)
	switch p := cfg.Providers[key.Provider]; p.Type {
	case config.GoogleServiceAccount:
		c.Use = func(ctx context.Context, v secret.Value) (bool, error) { return useGoogle(ctx, client, v) }
		iam, err := googlesa.New(ctx, googlesa.Options{
			Mode: googlesa.Mode(p.Mode), Endpoint: p.Endpoint, TokenURL: p.TokenURL, RequestTimeout: patience,
			ClientOptions: []option.ClientOption{option.WithUserAgent(Agent)},
		})
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, func() { _ = iam.Close() })
		c.List = func(ctx context.Context) ([]provider.Key, error) { return iam.List(ctx, key.Account) }
	case config.OpenAI:
		c.Use = func(ctx context.Context, v secret.Value) (bool, error) { return useOpenAI(ctx, client, p.Endpoint, v) }
	default:
		return nil, fmt.Errorf("provider %s: the auditor has no client of a %s", key.Provider, p.Type)
	}
	return c, nil
}

// open makes the official client of a store.
func (c *Clients) open(ctx context.Context, name string, s config.Store) (store.Store, error) {
	switch s.Type {
	case config.GoogleSecretManager:
		sm, err := googlesm.New(ctx, googlesm.Options{
			Name: name, Project: s.Project, Endpoint: s.Endpoint, Readers: googlesm.Readers(s.Readers), RequestTimeout: patience,
			ClientOptions: []option.ClientOption{option.WithUserAgent(Agent)},
		})
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, func() { _ = sm.Close() })
		return sm, nil
	case config.AWSSecretsManager:
		endpoint, err := c.named(s.Endpoint)
		if err != nil {
			return nil, err
		}
		return awssm.New(awssm.Options{Name: name, Region: s.Region, Endpoint: endpoint, RequestTimeout: patience})
	case config.Local:
		return local.New(local.Options{Name: name, Dir: s.Dir, IdentityFile: s.Identity})
	}
	return nil, fmt.Errorf("store %s: the auditor has no client of a %s", name, s.Type)
}

// named is an address of loopback whose requests come to endpoint under the applications' user agent: AWS's SDK writes its
// own into every request, and signs all but that.
func (c *Clients) named(endpoint string) (string, error) {
	to, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: named{transport}, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
	}})
	c.closers = append(c.closers, proxy.Close, transport.CloseIdleConnections)
	return proxy.URL, nil
}

// named sends requests under the applications' user agent.
type named struct{ http.RoundTripper }

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", Agent)
	return n.RoundTripper.RoundTrip(r)
}

// useGoogle gets an access token with a key file, as Google's libraries do before the first request.
func useGoogle(ctx context.Context, client *http.Client, v secret.Value) (bool, error) {
	creds, err := credentials.NewCredentialsFromJSON(credentials.ServiceAccount, []byte(v.Reveal()), &credentials.DetectOptions{
		Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"}, Client: client, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return false, errors.New("Google's library does not take the key file") // its text may hold a part of it
	}
	_, err = creds.Token(ctx)
	var refused *auth.Error
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode == http.StatusBadRequest {
		return false, nil
	}
	return err == nil, err
}

// useOpenAI lists the models.
func useOpenAI(ctx context.Context, client *http.Client, endpoint string, v secret.Value) (bool, error) {
	c := openai.NewClient(
		openaioption.WithAPIKey(v.Reveal()), openaioption.WithBaseURL(endpoint), openaioption.WithHTTPClient(client), openaioption.WithMaxRetries(0),
	)
	_, err := c.Models.List(ctx)
	var refused *openai.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusUnauthorized {
		return false, nil
	}
	return err == nil, err
}
