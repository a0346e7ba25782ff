package openai

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	client "github.com/sashabaranov/go-openai"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// Codes of refusals that say "a good key, but of somewhere else". They come back as Proof.Account, which then
// differs from every project id: whoever compares it with the project that a key should be of sees the difference.
const (
	OtherProject      = "mismatched_project"
	OtherOrganization = "mismatched_organization"
)

// incorrectHostname is the code with which a project with data residency refuses what is not sent to its region.
const incorrectHostname = "incorrect_hostname"

// Codes with which OpenAI says no to a request whose key it knows (OpenAI's docs: error codes). A key of a
// project without money is a good key.
var noMoney = []string{
	"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
	"project_spend_limit_exceeded", "organization_usage_limit_exceeded",
}

// maxAnswer bounds what is read of an answer. The real list of models takes some 20 kB.
const maxAnswer = 4 << 20

// Probe lists the models with v, in the name of the project projectID. It changes nothing and sends one request.
//
// A list proves the key and the project. So does a refusal for want of a scope or of money prove the key, with
// Account empty: OpenAI does not say in which order it checks. A good key of another project or organization is
// accepted with Account set to OtherProject or OtherOrganization. invalid_api_key is a refusal. A value that
// Parse rejects is refused with Parse's code and not sent.
//
// Every other answer proves nothing and is a fault: AccessDenied where OpenAI refuses the caller for another
// reason than the key (address, region, membership; a person can help), Throttled and Unavailable (retryable).
func (p *Provider) Probe(ctx context.Context, projectID string, v secret.Value) (provider.Proof, error) {
	doing := "ask " + p.options.Name + " whether it accepts a key of " + projectID
	if !account.MatchString(projectID) {
		return provider.Proof{}, fault.New(fault.Rejected, "bad_account", "ask "+p.options.Name+" about a key").
			WithAdvice("The account must be the id of a project (proj_…); the console shows it under Settings, General.")
	}
	parsed, err := p.Parse(v)
	if err != nil {
		return provider.Proof{Code: fault.Of(err).Code}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.options.RequestTimeout)
	defer cancel()
	x := &exchange{client: p.client, project: projectID}
	config := client.DefaultConfig(parsed.Value.Reveal())
	config.BaseURL, config.OrgID, config.HTTPClient = p.options.BaseURL, p.options.Organization, x
	models, err := client.NewClientWithConfig(config).ListModels(ctx)
	// The client takes a redirect for a success, and any JSON object for a list: the status and the list decide.
	if err == nil && x.status == http.StatusOK && models.Models != nil {
		return provider.Proof{Accepted: true, Account: projectID}, nil
	}
	return x.judge(err, doing)
}

// exchange is one request. It sees what the client keeps for itself: the status and how long to wait.
type exchange struct {
	client  *http.Client
	project string

	status     int
	retryAfter time.Duration
}

// Do adds the project and sends the request.
func (x *exchange) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("OpenAI-Project", x.project)
	answer, err := x.client.Do(r)
	if err != nil {
		return nil, err
	}
	x.status, x.retryAfter = answer.StatusCode, retryAfter(answer.Header, time.Now())
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	return answer, nil
}

// judge reads an answer that is not a list of models.
func (x *exchange) judge(err error, doing string) (provider.Proof, error) {
	code, scope, enveloped := refusal(err)
	failed := func(class fault.Class) *fault.Error {
		if code == "" && x.status != 0 {
			code = strconv.Itoa(x.status)
		}
		f := fault.New(class, code, doing)
		f.RetryAfter = x.retryAfter
		return f
	}
	switch {
	case x.status == 0 || interrupted(err):
		return provider.Proof{}, failed(fault.Unavailable)
	case x.status == http.StatusUnauthorized && enveloped:
		switch {
		case code == "invalid_api_key":
			return provider.Proof{Code: code}, nil
		case code == OtherProject || code == OtherOrganization:
			return provider.Proof{Accepted: true, Code: code, Account: code}, nil
		case scope:
			return provider.Proof{Accepted: true, Code: code}, nil
		case code == incorrectHostname:
			return provider.Proof{}, failed(fault.AccessDenied).WithAdvice("%s", residency(err))
		}
		return provider.Proof{}, failed(fault.AccessDenied).WithAdvice("OpenAI refuses the request for another reason than the key: look at the allowed addresses of project and organization, and whether the key's owner is still a member.")
	case x.status == http.StatusForbidden && enveloped && code != "unsupported_country_region_territory":
		return provider.Proof{Accepted: true, Code: code}, nil
	case x.status == http.StatusUnauthorized || x.status == http.StatusForbidden:
		return provider.Proof{}, failed(fault.AccessDenied).WithAdvice("The answer says nothing about the key: OpenAI does not serve this region, or something on the way refuses the request.")
	case x.status == http.StatusTooManyRequests && slices.Contains(noMoney, code):
		return provider.Proof{Accepted: true, Code: code}, nil
	case x.status == http.StatusTooManyRequests:
		return provider.Proof{}, failed(fault.Throttled)
	case x.status >= http.StatusInternalServerError || x.status == http.StatusRequestTimeout:
		return provider.Proof{}, failed(fault.Unavailable)
	case x.status == http.StatusNotFound:
		return provider.Proof{}, failed(fault.NotFound).WithAdvice("Check the provider's base address: it ends with /v1.")
	case x.status < http.StatusBadRequest:
		return provider.Proof{}, failed(fault.Internal).WithAdvice("Whoever answers at the provider's base address is not OpenAI's API. Redirects are not followed.")
	default:
		return provider.Proof{}, failed(fault.Rejected)
	}
}

// refusal reads OpenAI's envelope: its code (a number or free text does not count), whether it is for want of a scope,
// and whether the answer is OpenAI's at all. The text may hold a part of the key and goes no further.
func refusal(err error) (code string, scope, enveloped bool) {
	var e *client.APIError
	if !errors.As(err, &e) {
		return "", false, false
	}
	code, _ = e.Code.(string)
	// OpenAI returns a missing scope no code, and as users report it, sometimes the status 401.
	scope = code == "" && strings.Contains(e.Message, "Missing scopes:")
	// A code that could be free text is dropped here, before it becomes part of a Proof.
	return fault.New(fault.Rejected, code, "").Code, scope, e.Type != ""
}

// region is how OpenAI's text names the address of a project with data residency: all that is taken from it.
var region = regexp.MustCompile(`\b([a-z]{2})\.api\.openai\.com\b`)

// residency says which address to configure.
func residency(err error) string {
	const where = "The project has data residency: it answers at its region's own address only. In rekey.yaml, set "
	const others = " for its provider; projects of other regions need a provider of their own."
	var e *client.APIError
	if errors.As(err, &e) {
		if m := region.FindStringSubmatch(e.Message); m != nil {
			return where + "endpoint: https://" + m[1] + ".api.openai.com/v1" + others
		}
	}
	return where + "endpoint: https://eu.api.openai.com/v1 (or us.api.openai.com)" + others
}

// interrupted reports whether an answer broke off, rather than being something else than it should.
func interrupted(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// retryAfter reads how long the other side asks to wait: OpenAI's milliseconds, else seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseInt(h.Get("Retry-After-Ms"), 10, 32); err == nil {
		return max(0, time.Duration(ms)*time.Millisecond)
	}
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
