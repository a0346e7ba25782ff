package googlesa

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/auth"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// probeScope is the least that a token can be for: the token is thrown away.
const probeScope = "https://www.googleapis.com/auth/userinfo.email"

// Probe exchanges an assertion signed with the key for an access token, at our token endpoint whatever the file
// says. A JWT that services would take directly would not prove that Google knows the key. Google answers
// invalid_grant for unknown, disabled and deleted keys, and for good ones that have not propagated.
//
// Google counts a probe as use of the key.
func (p *Provider) Probe(ctx context.Context, account string, v secret.Value) (provider.Proof, error) {
	c, err := p.read(v)
	if err != nil {
		return provider.Proof{}, err
	}
	what := p.doing("prove a key of " + c.ClientEmail)
	exchange, err := auth.New2LOTokenProvider(&auth.Options2LO{
		Email: c.ClientEmail, PrivateKey: []byte(c.PrivateKey), PrivateKeyID: c.PrivateKeyID,
		TokenURL: p.opts.TokenURL, Scopes: []string{probeScope}, UniverseDomain: googleapi.UniverseDomain,
		Client: p.tokens,
		// Without a logger of ours, GOOGLE_SDK_GO_LOGGING_LEVEL=debug makes the client print tokens.
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return provider.Proof{}, fault.New(fault.Internal, "bad_options", what)
	}
	ctx, done := p.bounded(ctx)
	defer done()
	token, err := exchange.Token(ctx)
	if err == nil {
		if token.Value == "" {
			return provider.Proof{}, fault.New(fault.Internal, "bad_answer", what)
		}
		// The grant is to the account whose name the assertion bears; the caller compares it with account.
		return provider.Proof{Accepted: true, Account: c.ClientEmail}, nil
	}
	return judge(err, what)
}

// judge distinguishes a refused key from a question that was not answered.
func judge(err error, what string) (provider.Proof, error) {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var refused *auth.Error
	switch {
	case errors.As(err, &syntax), errors.As(err, &kind):
		return provider.Proof{}, fault.New(fault.Internal, "bad_answer", what)
	case !errors.As(err, &refused) || refused.Response == nil:
		return provider.Proof{}, fault.New(fault.Unavailable, "", what)
	}
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	// Not JSON: then it is not the token endpoint's own refusal.
	_ = json.Unmarshal(refused.Body, &answer)

	status := refused.Response.StatusCode
	f := fault.New(fault.Internal, strconv.Itoa(status), what)
	f.RetryAfter = retryAfter(refused.Response.Header)
	switch {
	case status == http.StatusTooManyRequests:
		f.Class = fault.Throttled
	case status >= 500 || status == http.StatusRequestTimeout:
		f.Class = fault.Unavailable
	case status >= 300 && status < 400:
		return provider.Proof{}, f.WithAdvice("Something between rekey and Google answers with a redirect, which rekey does not follow: look for a proxy.")
	case status == http.StatusForbidden:
		f.Class = fault.AccessDenied
		return provider.Proof{}, f.WithAdvice("Google, or something before it, does not let rekey ask for a token: look for a service perimeter or a firewall.")
	case answer.Error == "invalid_grant" && strings.HasPrefix(answer.Description, "Invalid JWT: Token must be"):
		// The one refusal under this code that says nothing about the key.
		f = fault.New(fault.Unavailable, "clock_skew", what)
		return provider.Proof{}, f.WithAdvice("Google finds the time in our request wrong: set this machine's clock.")
	case answer.Error == "invalid_grant":
		return provider.Proof{Code: answer.Error}, nil
	// The account itself is gone or switched off (401 with these codes).
	case answer.Error == "deleted_client" || answer.Error == "disabled_client" || answer.Error == "invalid_client":
		return provider.Proof{Code: answer.Error}, nil
	case answer.Error != "":
		f = fault.New(fault.Rejected, answer.Error, what)
	}
	return provider.Proof{}, f
}

// retryAfter reads the header in seconds or as a date; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
