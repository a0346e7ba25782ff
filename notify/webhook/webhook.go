// Package webhook notifies people through Slack's incoming webhooks, and through webhooks of your own.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/rekeyhq/rekey/internal/secretfile"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// The types of channels.
const (
	Slack   = "slack"
	Webhook = "webhook"
)

const (
	// defaultTimeout is the longest one request may take; it is shorter than the activity's.
	defaultTimeout = 10 * time.Second
	// maxAnswer is more than anybody has to say about a notification.
	maxAnswer = 16 << 10
	// maxRetryAfter is the longest that a receiver may make us wait.
	maxRetryAfter = 10 * time.Minute
)

// Source is where something secret is read: a file, or an environment variable. It is read each time it is needed, so
// that it can be replaced without a restart.
type Source struct {
	// File is the name of a file that only its owner can read; it counts where both are set.
	File string
	// Env is the name of an environment variable.
	Env string
}

// IsEmpty reports whether neither is named.
func (s Source) IsEmpty() bool { return s == Source{} }

// String names the source for a person; it does not read it.
func (s Source) String() string {
	if s.File != "" {
		return s.File
	}
	return "the environment variable " + s.Env
}

// read returns the value; its errors say nothing of the content.
func (s Source) read(missing string) (secret.Value, error) {
	if s.File != "" {
		return secretfile.Read(s.File, missing)
	}
	v := os.Getenv(s.Env)
	if len(v) < secretfile.Min {
		return secret.Value{}, errors.New("it is not set, or shorter than 16 characters. " + missing)
	}
	return secret.FromString(v), nil
}

// Options describe a channel.
type Options struct {
	// Name is what messages call it.
	Name string
	// Type is Slack or Webhook.
	Type string
	// URL is where a webhook is sent, unless Address says it. For Slack the address is itself a secret.
	URL     string
	Address Source
	// Secret is what a webhook is signed with.
	Secret Source
	// RequestTimeout is the longest one request may take; 0 means 10 s.
	RequestTimeout time.Duration
	// Now dates signatures; nil means the real clock.
	Now func() time.Time
	// Transport carries the requests; nil means straight to the address, with no proxy from the environment.
	Transport http.RoundTripper
}

// Channel implements notify.Channel. It is safe for concurrent use.
type Channel struct {
	options Options
	client  *http.Client
}

// New makes a channel; it reads and asks nothing yet.
func New(o Options) *Channel {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = defaultTimeout
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		}
	}
	return &Channel{options: o, client: &http.Client{
		Transport: o.Transport,
		// A redirect would carry the notification, and a signature, to an address that nobody has configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Notify implements notify.Channel with one request. A webhook of your own gets the notification's ID as a header and in its
// body; Slack has no place for it, so a repetition is a second message there.
func (c *Channel) Notify(ctx context.Context, n rotation.Notification) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	address, shared, err := c.secrets()
	if err != nil {
		return c.fault(fault.AccessDenied, "secret").WithAdvice("%s", err)
	}
	body, err := c.body(n)
	if err != nil {
		return c.fault(fault.Internal, "encode")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address.Reveal(), bytes.NewReader(body))
	if err != nil {
		return c.fault(fault.Rejected, "address")
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", "rekey")
	if c.options.Type == Webhook {
		sign(r.Header, shared, c.options.Now(), n.ID, body)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return c.unsent(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case answer.StatusCode/100 != 2:
		return c.refused(answer)
	case c.options.Type == Slack && err != nil:
		return c.unsent(err)
	case c.options.Type == Slack && string(bytes.TrimSpace(text)) != "ok":
		// A portal that wants a login answers 200 as well.
		return c.fault(fault.Internal, "answer").WithAdvice("Slack answers \"ok\"; something else answers there.")
	}
	return nil
}

func (c *Channel) fault(class fault.Class, code string) *fault.Error {
	return fault.New(class, code, "notify "+c.options.Name)
}

// unsent sorts a request without an answer. The error's text holds the address and is dropped.
func (c *Channel) unsent(err error) error {
	var dial *net.OpError
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return c.fault(fault.Rejected, "certificate").WithAdvice("The certificate of the address is not one that this machine trusts.")
	case errors.As(err, &dial) && dial.Op == "dial":
		return c.fault(fault.Unavailable, "connect")
	}
	f := c.fault(fault.Unavailable, "no_answer")
	f.Unsettled = true
	return f
}

func (c *Channel) refused(answer *http.Response) error {
	code := strconv.Itoa(answer.StatusCode)
	switch s := answer.StatusCode; {
	case s/100 == 3:
		return c.fault(fault.Rejected, code).WithAdvice("The address answers with a redirect, which is not followed: name the address itself.")
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return c.fault(fault.AccessDenied, code).WithAdvice("Look at the receiver: it refuses the address, or the signature.")
	case s == http.StatusNotFound || s == http.StatusGone:
		return c.fault(fault.NotFound, code).WithAdvice("The webhook, or what it writes to, is gone. Make another one, and put its address in the place of this one.")
	case s == http.StatusTooManyRequests:
		f := c.fault(fault.Throttled, code)
		f.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), c.options.Now())
		return f
	case s == http.StatusRequestTimeout || s/100 == 5:
		f := c.fault(fault.Unavailable, code)
		f.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), c.options.Now())
		return f
	}
	return c.fault(fault.Rejected, code)
}

func retryAfter(text string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(text); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// secrets reads the address, and what to sign with.
func (c *Channel) secrets() (address, shared secret.Value, err error) {
	address = secret.FromString(c.options.URL)
	if !c.options.Address.IsEmpty() {
		if address, err = c.options.Address.read("It holds the address of the webhook."); err != nil {
			return address, shared, errors.New(c.options.Address.String() + ": " + err.Error())
		}
	}
	if !Safe(address.Reveal()) {
		return address, shared, errors.New("the address must be https://…, without user or fragment; plain http goes to loopback only")
	}
	if c.options.Type == Webhook {
		if shared, err = c.options.Secret.read(secretfile.Make); err != nil {
			return address, shared, errors.New(c.options.Secret.String() + ": " + err.Error())
		}
	}
	return address, shared, nil
}

// Check returns what is wrong with the files and variables of the channel, without sending anything.
func (c *Channel) Check() error {
	_, _, err := c.secrets()
	return err
}

// Connect returns an error if nobody listens at the address, or if the address cannot be used. It sends nothing. The error
// names host and port, and no more of the address.
func (c *Channel) Connect(ctx context.Context) error {
	address, _, err := c.secrets()
	if err != nil {
		return err
	}
	u, err := url.Parse(address.Reveal())
	if err != nil {
		return errors.New("the address is not a valid URL")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return errors.New("nobody listens on port " + port + " of " + u.Hostname() + " as seen from here")
	}
	return conn.Close()
}

// Safe reports whether notifications may travel to address: https, or http to loopback.
func Safe(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "http" {
		ip, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	}
	return u.Scheme == "https"
}
