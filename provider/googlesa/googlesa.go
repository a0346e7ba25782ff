// Package googlesa is the provider google-service-account: keys of Google Cloud service accounts, through the IAM
// admin API.
//
// Google's keys carry no name. In the mode "upload" the key pair is therefore made here and only its certificate
// goes to Google, with the stamp as common name. In the mode "create" Google makes the pair, and a key whose
// creation was not answered cannot be proven to be ours.
package googlesa

import (
	"context"
	"net/http"
	"net/url"
	"time"

	admin "cloud.google.com/go/iam/admin/apiv1"
	"google.golang.org/api/option"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// Mode says who makes the key pair.
type Mode string

const (
	// Upload: we make it and upload the certificate. Organization policy iam.disableServiceAccountKeyUpload, or iam.managed.disableServiceAccountKeyUpload, forbids it.
	Upload Mode = "upload"
	// Create: Google makes it. Organization policy iam.disableServiceAccountKeyCreation, or iam.managed.disableServiceAccountKeyCreation,
	// forbids it.
	Create Mode = "create"
)

const (
	// Google's quota page: 10 keys per service account; disabled ones count.
	keyLimit = 10

	iamEndpoint = "iam.googleapis.com:443"
	tokenURL    = "https://oauth2.googleapis.com/token"
)

// Options set up a Provider. The zero value, plus ClientOptions with credentials, is good for production.
type Options struct {
	// Name is how messages call this provider; "google-service-account" if empty.
	Name string
	// Mode is Upload if empty.
	Mode Mode
	// Endpoint is host:port of another IAM API, on loopback and without TLS; empty means Google's. TokenURL must
	// then be set too.
	Endpoint string
	// TokenURL is the token endpoint that values are proven at, and that stored key files name; empty means
	// Google's. It is https, or http on loopback.
	TokenURL string
	// ClientOptions go to the IAM client; with Google's endpoint they must hold the credentials that rekey itself
	// calls with (option.WithAuthCredentials). Nothing is taken from the environment.
	ClientOptions []option.ClientOption

	// RequestTimeout bounds one request; 30 s if 0.
	RequestTimeout time.Duration
	// ListLag is how late lists are; 60 s if 0. Google's docs: after creating a key one may have to wait for 60
	// seconds or more before another operation with it.
	ListLag time.Duration
	// Propagation is how long a good new key may be refused; 2 min if 0. Google's own tests poll that long.
	Propagation time.Duration
	// RevocationLag is how long a disabled or deleted key may still get tokens; 1 min if 0. Tokens that were
	// issued before live on for up to an hour (Google's docs).
	RevocationLag time.Duration
	// Now dates certificates; time.Now if nil.
	Now func() time.Time
	// KeyBits is the size of the RSA keys that are made here; 2048 if 0, at least 1024 (the standard library makes none below).
	KeyBits int
}

// Provider issues and revokes keys of Google service accounts. account is the account's email.
type Provider struct {
	// Usage is not supported for now: Google's metrics are up to 3 h late and its Policy Analyzer a day, and both
	// count refused calls as use, our probes among them. The guard then answers Unknown.
	provider.Unsupported

	opts   Options
	iam    *admin.IamClient
	tokens *http.Client
}

var _ provider.Provider = (*Provider)(nil)

// New makes a Provider. It asks nobody anything yet. A Rejected fault says which option is wrong.
func New(ctx context.Context, o Options) (*Provider, error) {
	if o.Name == "" {
		o.Name = "google-service-account"
	}
	doing := "set up " + o.Name
	switch o.Mode {
	case "":
		o.Mode = Upload
	case Upload, Create:
	default:
		return nil, fault.New(fault.Rejected, "bad_mode", doing).WithAdvice("mode is %q or %q.", Upload, Create)
	}
	o.RequestTimeout = or(o.RequestTimeout, 30*time.Second)
	o.ListLag = or(o.ListLag, time.Minute)
	o.Propagation = or(o.Propagation, 2*time.Minute)
	o.RevocationLag = or(o.RevocationLag, time.Minute)
	if o.KeyBits == 0 {
		o.KeyBits = 2048
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	options, err := o.clientOptions(doing)
	if err != nil {
		return nil, err
	}
	if o.TokenURL == "" {
		o.TokenURL = tokenURL
	}
	client, dialError := admin.NewIamClient(ctx, options...)
	if dialError != nil {
		return nil, googleapi.ErrClient(doing)
	}
	// The client retries some calls by itself, Delete among them. Repeating is the caller's business.
	client.CallOptions = &admin.IamCallOptions{}
	return &Provider{
		Unsupported: provider.Unsupported{Name: o.Name}, opts: o, iam: client,
		tokens: &http.Client{
			// A redirect could carry a signed assertion elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second},
		},
	}, nil
}

// Close returns the connections back.
func (p *Provider) Close() error {
	p.tokens.CloseIdleConnections()
	return p.iam.Close()
}

// clientOptions checks the endpoints and returns what the IAM client is made with.
func (o Options) clientOptions(doing string) ([]option.ClientOption, error) {
	if o.TokenURL != "" {
		u, err := url.Parse(o.TokenURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !googleapi.Loopback(u.Hostname())) {
			return nil, fault.New(fault.Rejected, "bad_endpoint", doing).WithAdvice("the token URL must be https, or http on loopback.")
		}
	}
	if o.Endpoint != "" && o.TokenURL == "" {
		return nil, fault.New(fault.Rejected, "bad_endpoint", doing).WithAdvice("another endpoint needs a token URL.")
	}
	return googleapi.ClientOptions(iamEndpoint, o.Endpoint, o.ClientOptions, doing)
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Capabilities depend on the mode: only uploads carry stamps.
func (p *Provider) Capabilities() provider.Capabilities {
	return provider.Capabilities{
		Mint: true, Stamps: p.opts.Mode == Upload,
		List: true, Disable: true, Delete: true,
		Limit:          keyLimit,
		RequestTimeout: p.opts.RequestTimeout, ListLag: p.opts.ListLag,
		Propagation: p.opts.Propagation, RevocationLag: p.opts.RevocationLag,
	}
}

// Parse reads a key file. See credentials.go for what it keeps. Anything else is Rejected.
func (p *Provider) Parse(v secret.Value) (provider.Parsed, error) {
	c, err := p.read(v)
	if err != nil {
		return provider.Parsed{}, err
	}
	return provider.Parsed{Value: c.value(), KeyID: c.PrivateKeyID, Account: c.ClientEmail}, nil
}

// Console is the list of the project's service accounts; the page of one account has its keys on a tab.
func (p *Provider) Console(account string) string {
	const page = "https://console.cloud.google.com/iam-admin/serviceaccounts"
	if project := projectOf(account); project != "" {
		return page + "?project=" + url.QueryEscape(project)
	}
	return page
}

func (p *Provider) doing(what string) string { return what + " (" + p.opts.Name + ")" }

// bounded returns one request its time.
func (p *Provider) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.opts.RequestTimeout)
}
