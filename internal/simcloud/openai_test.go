package simcloud_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	community "github.com/sashabaranov/go-openai"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
)

const openAIProject = "proj_alpha"

// openAIClock is a time that only tests move.
type openAIClock struct {
	mu  sync.Mutex
	now time.Time
}

func newOpenAIClock() *openAIClock {
	return &openAIClock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *openAIClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *openAIClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func startOpenAI(t *testing.T, now func() time.Time, options simcloud.OpenAIOptions) (*simcloud.Cloud, *simcloud.OpenAI) {
	t.Helper()
	cloud := simcloud.New(now)
	o, err := cloud.StartOpenAI(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Stop)
	return cloud, o
}

// official is OpenAI's own client, without retries and without anything from the environment.
func official(o *simcloud.OpenAI, key secret.Value, options ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(o.URL), option.WithAPIKey(key.Reveal()), option.WithMaxRetries(0), option.WithUnsafeAllowHTTP(),
		option.WithHTTPClient(&http.Client{}),
	}, options...)...)
}

// listError lists the models and gives OpenAI's error; nil if there was none.
func listError(t *testing.T, client openai.Client) *openai.Error {
	t.Helper()
	page, err := client.Models.List(t.Context())
	if err == nil {
		if len(page.Data) == 0 {
			t.Fatal("a list of no models")
		}
		return nil
	}
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an error of OpenAI's: %v", err)
	}
	return e
}

func chat(ctx context.Context, client openai.Client, model string) error {
	answer, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
	})
	if err == nil && answer.Choices[0].Message.Content != "ok" {
		return errors.New("another answer than ok")
	}
	return err
}

func TestANewKeyListsModelsAndChatsWithBothClients(t *testing.T) {
	cloud, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	id, key := o.CreateKey(openAIProject, "by hand")

	client := official(o, key, option.WithProject(openAIProject), option.WithOrganization("org-simcloud"))
	if e := listError(t, client); e != nil {
		t.Fatal(e)
	}
	if err := chat(t.Context(), client, "gpt-5"); err != nil {
		t.Fatal(err)
	}
	config := community.DefaultConfig(key.Reveal())
	config.BaseURL = o.URL
	models, err := community.NewClientWithConfig(config).ListModels(t.Context())
	if err != nil || len(models.Models) != 2 {
		t.Fatalf("go-openai sees %d models, %v", len(models.Models), err)
	}
	for _, name := range []string{"X-Request-Id", "Openai-Version", "Openai-Organization", "Openai-Processing-Ms"} {
		if models.Header().Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}

	if got := cloud.KeyID(key); got != id {
		t.Errorf("the cloud takes the key for %q", got)
	}
	if n := cloud.Calls("openai", simcloud.OpenAIListModels); n != 2 {
		t.Errorf("%d lists in the journal", n)
	}
	for _, e := range cloud.Journal() {
		if e.Kind == simcloud.Called && e.Target != openAIProject+"/"+id {
			t.Errorf("a call with the target %q", e.Target)
		}
	}
}

func TestRequestsThatOpenAIRefusesAreRefused(t *testing.T) {
	elsewhere := netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		prepare func(o *simcloud.OpenAI, id string)
		options simcloud.OpenAIOptions
		key     string
		with    []option.RequestOption
		status  int
		code    string
		kind    string
	}{
		"a key that nobody made":                  {key: "sk-proj-0123456789abcdef", status: 401, code: "invalid_api_key", kind: "invalid_request_error"},
		"a deleted key":                           {prepare: func(o *simcloud.OpenAI, id string) { _ = o.DeleteKey(id) }, status: 401, code: "invalid_api_key", kind: "invalid_request_error"},
		"another project":                         {with: []option.RequestOption{option.WithProject("proj_beta")}, status: 401, code: "mismatched_project", kind: "invalid_request_error"},
		"another organization":                    {with: []option.RequestOption{option.WithOrganization("org-other")}, status: 401, code: "mismatched_organization", kind: "invalid_request_error"},
		"an address outside the allowlist":        {prepare: func(o *simcloud.OpenAI, _ string) { o.AllowAddresses(openAIProject, elsewhere) }, status: 401, code: "ip_not_authorized", kind: "invalid_request_error"},
		"a key without the scope":                 {prepare: func(o *simcloud.OpenAI, id string) { _ = o.Restrict(id) }, status: 403, kind: "invalid_request_error"},
		"a key without the scope, the 401 way":    {prepare: func(o *simcloud.OpenAI, id string) { _ = o.Restrict(id) }, options: simcloud.OpenAIOptions{MissingScope: 401}, status: 401, kind: "invalid_request_error"},
		"a project with data residency elsewhere": {prepare: func(o *simcloud.OpenAI, _ string) { o.Reside(openAIProject, "eu") }, status: 401, code: "incorrect_hostname", kind: "invalid_request_error"},
		"a project without quota":                 {prepare: func(o *simcloud.OpenAI, _ string) { o.ExhaustQuota(openAIProject, true) }, status: 429, code: "insufficient_quota", kind: "insufficient_quota"},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := startOpenAI(t, nil, c.options)
			id, key := o.CreateKey(openAIProject, "k")
			if c.key != "" {
				key = secret.FromString(c.key)
			}
			if c.prepare != nil {
				c.prepare(o, id)
			}
			e := listError(t, official(o, key, c.with...))
			if e == nil {
				t.Fatal("accepted")
			}
			if e.StatusCode != c.status || e.Code != c.code || e.Type != c.kind || e.Message == "" {
				t.Errorf("%d %s/%s %q", e.StatusCode, e.Type, e.Code, e.Message)
			}

			config := community.DefaultConfig(key.Reveal())
			config.BaseURL = o.URL
			if len(c.with) == 0 {
				_, err := community.NewClientWithConfig(config).ListModels(t.Context())
				var api *community.APIError
				if !errors.As(err, &api) || api.HTTPStatusCode != c.status || api.Message != e.Message {
					t.Errorf("go-openai reads it as %v", err)
				}
			}
		})
	}
}

func TestARefusedKeyIsEchoedInPartAndNeverWhole(t *testing.T) {
	_, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	key := secret.FromString("sk-proj-0123456789abcdefWXYZ")
	e := listError(t, official(o, key))
	if !strings.Contains(e.Message, "sk-proj-") || !strings.Contains(e.Message, "WXYZ") || strings.Contains(e.Message, key.Reveal()) {
		t.Errorf("the message is %q", e.Message)
	}
}

func TestARestrictedKeyChatsOn(t *testing.T) {
	_, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	id, key := o.CreateKey(openAIProject, "k")
	if err := o.Restrict(id); err != nil {
		t.Fatal(err)
	}
	if err := chat(t.Context(), official(o, key), "gpt-5-mini"); err != nil {
		t.Error(err)
	}
	if keys := o.Keys(openAIProject); len(keys) != 1 || !keys[0].Restricted {
		t.Errorf("the console shows %v", keys)
	}
}

func TestANewKeyIsRefusedUntilItHasPropagated(t *testing.T) {
	time0 := newOpenAIClock()
	cloud, o := startOpenAI(t, time0.Now, simcloud.OpenAIOptions{})
	cloud.SetTiming(simcloud.Timing{Propagation: time.Minute})
	_, key := o.CreateKey(openAIProject, "k")
	if e := listError(t, official(o, key)); e == nil || e.Code != "invalid_api_key" {
		t.Errorf("before: %v", e)
	}
	time0.advance(time.Minute)
	if e := listError(t, official(o, key)); e != nil {
		t.Errorf("after: %v", e)
	}
}

func TestADeletedKeyIsAcceptedUntilTheRevocationHasPropagated(t *testing.T) {
	time0 := newOpenAIClock()
	cloud, o := startOpenAI(t, time0.Now, simcloud.OpenAIOptions{})
	cloud.SetTiming(simcloud.Timing{RevocationLag: time.Minute})
	id, key := o.CreateKey(openAIProject, "k")
	if err := o.DeleteKey(id); err != nil {
		t.Fatal(err)
	}
	if len(o.Keys(openAIProject)) != 0 {
		t.Error("the console still shows it")
	}
	if o.DeleteKey(id) == nil || o.Restrict(id) == nil {
		t.Error("a key that the console does not show was changed")
	}
	if e := listError(t, official(o, key)); e != nil {
		t.Errorf("before: %v", e)
	}
	time0.advance(time.Minute)
	if e := listError(t, official(o, key)); e == nil || e.Code != "invalid_api_key" {
		t.Errorf("after: %v", e)
	}
	if live := cloud.LiveKeys(); len(live) != 0 {
		t.Errorf("the journal says that %v live", live)
	}
}

func TestTheRateLimitSaysHowLongToWait(t *testing.T) {
	time0 := newOpenAIClock()
	_, o := startOpenAI(t, time0.Now, simcloud.OpenAIOptions{RequestsPerMinute: 2})
	_, key := o.CreateKey(openAIProject, "k")
	client := official(o, key)
	for range 2 {
		if e := listError(t, client); e != nil {
			t.Fatal(e)
		}
	}
	e := listError(t, client)
	if e == nil || e.StatusCode != 429 || e.Code != "rate_limit_exceeded" || e.Response.Header.Get("Retry-After") != "30" {
		t.Fatalf("the third request in a minute: %+v", e)
	}
	time0.advance(30 * time.Second)
	if e := listError(t, client); e != nil {
		t.Error(e)
	}
}

func TestChatRefusesWhatOpenAIRefuses(t *testing.T) {
	_, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	_, key := o.CreateKey(openAIProject, "k")
	for body, status := range map[string]int{
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}`:                     200,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"temperature":1}`:     200,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"temperature":3}`:     400,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"colour":"red"}`:      400,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"stream":true}`:       400,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"stream_options":{}}`: 400,
		`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"n":0}`:               400,
		`{"model":"gpt-5","messages":[{"role":"nobody","content":"hi"}]}`:                   400,
		`{"model":"gpt-5","messages":[{"role":"user"}]}`:                                    400,
		`{"model":"gpt-5","messages":[]}`:                                                   400,
		`{"model":"gpt-5"}`:                                                                 400,
		`{"messages":[{"role":"user","content":"hi"}]}`:                                     400,
		`{"model":7,"messages":[{"role":"user","content":"hi"}]}`:                           400,
		`{"model":"gpt-2","messages":[{"role":"user","content":"hi"}]}`:                     404,
		`no JSON`: 400,
	} {
		for kind, want := range map[string]int{"application/json": status, "text/plain": 400} {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+"/chat/completions", strings.NewReader(body))
			request.Header.Set("Authorization", "Bearer "+key.Reveal())
			request.Header.Set("Content-Type", kind)
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s as %s: %d, want %d", body, kind, answer.StatusCode, want)
			}
		}
	}
}

func TestInjectedFailuresLookLikeOpenAIs(t *testing.T) {
	for status, code := range map[int]string{401: "invalid_api_key", 429: "rate_limit_exceeded", 500: "server_error", 503: "server_error"} {
		cloud, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
		_, key := o.CreateKey(openAIProject, "k")
		cloud.Inject(simcloud.Fault{Service: "openai", Method: simcloud.OpenAIListModels, Kind: simcloud.Refuse, Code: status, RetryAfter: 7 * time.Second, Times: 1})
		e := listError(t, official(o, key))
		if e == nil || e.StatusCode != status || e.Code != code || e.Response.Header.Get("Retry-After") != "7" {
			t.Errorf("%d: %+v", status, e)
		}
		if e := listError(t, official(o, key)); e != nil {
			t.Errorf("after the failure: %v", e)
		}
	}
}

func TestWhatIsNotSimulatedIsNotFound(t *testing.T) {
	_, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	for request, want := range map[string]int{"GET /embeddings": 404, "POST /models": 405, "GET /chat/completions": 405} {
		method, path, _ := strings.Cut(request, " ")
		r, _ := http.NewRequestWithContext(t.Context(), method, o.URL+path, nil)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", request, answer.StatusCode)
		}
	}
}

func TestAProjectWithDataResidencyAnswersAtItsOwnAddressOnly(t *testing.T) {
	_, o := startOpenAI(t, nil, simcloud.OpenAIOptions{})
	_, key := o.CreateKey(openAIProject, "k")
	o.Reside(openAIProject, "us")
	for host, want := range map[string]int{"": 401, "api.openai.com": 401, "eu.api.openai.com": 401, "us.api.openai.com": 200} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, o.URL+"/models", nil)
		request.Header.Set("Authorization", "Bearer "+key.Reveal())
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("at %q: %d, want %d", host, answer.StatusCode, want)
		}
	}
}
