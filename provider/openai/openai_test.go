package openai_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/provider/openai"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

const alpha, beta = "proj_alpha", "proj_beta"

func start(t *testing.T, options simcloud.OpenAIOptions) (*simcloud.Cloud, *simcloud.OpenAI, *openai.Provider) {
	t.Helper()
	cloud := simcloud.New(nil)
	sim, err := cloud.StartOpenAI(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Stop)
	return cloud, sim, at(t, sim.URL)
}

func at(t *testing.T, url string) *openai.Provider {
	t.Helper()
	p, err := openai.New(openai.Options{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// leaks reports whether text has eight characters in a row of the key's secret part.
func leaks(text string, key secret.Value) bool {
	plain := strings.TrimPrefix(key.Reveal(), "sk-proj-")
	for i := range len(plain) - 8 {
		if strings.Contains(text, plain[i:i+8]) {
			return true
		}
	}
	return strings.Contains(text, plain[len(plain)-4:])
}

func TestWhatAProbeProves(t *testing.T) {
	accepted := provider.Proof{Accepted: true, Account: alpha}
	elsewhere := netip.MustParsePrefix("192.0.2.0/24")
	for sentence, c := range map[string]struct {
		options simcloud.OpenAIOptions
		project string
		prepare func(o *simcloud.OpenAI, id string)
		want    provider.Proof
		fault   fault.Class
		code    string
	}{
		"a good key is accepted for its project": {want: accepted},
		"a key without the scope to list models is accepted, and the project not proven": {
			prepare: func(o *simcloud.OpenAI, id string) { _ = o.Restrict(id) },
			want:    provider.Proof{Accepted: true},
		},
		"the same when OpenAI says it with 401": {
			options: simcloud.OpenAIOptions{MissingScope: http.StatusUnauthorized},
			prepare: func(o *simcloud.OpenAI, id string) { _ = o.Restrict(id) },
			want:    provider.Proof{Accepted: true},
		},
		"a deleted key is refused": {
			prepare: func(o *simcloud.OpenAI, id string) { _ = o.DeleteKey(id) },
			want:    provider.Proof{Code: "invalid_api_key"},
		},
		"a key of another project is accepted, and is seen to be one": {
			project: beta, want: provider.Proof{Accepted: true, Code: openai.OtherProject, Account: openai.OtherProject},
		},
		"a key without quota is accepted": {
			prepare: func(o *simcloud.OpenAI, _ string) { o.ExhaustQuota(alpha, true) },
			want:    provider.Proof{Accepted: true, Code: "insufficient_quota"},
		},
		"a project with data residency says nothing at another region's address": {
			prepare: func(o *simcloud.OpenAI, _ string) { o.Reside(alpha, "eu") },
			fault:   fault.AccessDenied, code: "incorrect_hostname",
		},
		"an address that is not allowed says nothing about the key": {
			prepare: func(o *simcloud.OpenAI, _ string) { o.AllowAddresses(alpha, elsewhere) },
			fault:   fault.AccessDenied, code: "ip_not_authorized",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, sim, p := start(t, c.options)
			project := c.project
			if project == "" {
				project = alpha
			}
			id, key := sim.CreateKey(alpha, "k")
			if c.prepare != nil {
				c.prepare(sim, id)
			}
			got, err := p.Probe(t.Context(), project, key)
			if c.fault == "" {
				if err != nil || got != c.want {
					t.Fatalf("%+v, %v", got, err)
				}
			} else if f := fault.Of(err); f.Class != c.fault || f.Code != c.code || f.Advice == "" {
				t.Fatalf("%+v, %+v", got, f)
			}
			if leaks(fmt.Sprintf("%+v %v", got, err), key) {
				t.Errorf("part of the key in %+v, %v", got, err)
			}
		})
	}
}

func TestAProjectWithDataResidencyTellsWhichEndpointToSet(t *testing.T) {
	for region, want := range map[string]string{
		"eu": "set endpoint: https://eu.api.openai.com/v1 ", "us": "set endpoint: https://us.api.openai.com/v1 ",
		// A text that names no region as we know them.
		"somewhere": "https://eu.api.openai.com/v1 (or us.api.openai.com)",
	} {
		_, sim, p := start(t, simcloud.OpenAIOptions{})
		_, key := sim.CreateKey(alpha, "k")
		sim.Reside(alpha, region)
		_, err := p.Probe(t.Context(), alpha, key)
		if f := fault.Of(err); !strings.Contains(f.Advice, want) || strings.Contains(f.Advice, "somewhere") {
			t.Errorf("%s: %v", region, err)
		}
	}
}

func TestTheOrganizationIsNamedInEveryRequest(t *testing.T) {
	_, sim, _ := start(t, simcloud.OpenAIOptions{Organization: "org-ours"})
	_, key := sim.CreateKey(alpha, "k")
	for organization, want := range map[string]provider.Proof{
		"org-ours":   {Accepted: true, Account: alpha},
		"org-theirs": {Accepted: true, Code: openai.OtherOrganization, Account: openai.OtherOrganization},
	} {
		p, err := openai.New(openai.Options{BaseURL: sim.URL, Organization: organization})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Probe(t.Context(), alpha, key); err != nil || got != want {
			t.Errorf("%s: %+v, %v", organization, got, err)
		}
	}
}

func TestAnOutageIsAFaultAndSaysHowLongToWait(t *testing.T) {
	for sentence, c := range map[string]struct {
		inject simcloud.Fault
		class  fault.Class
		code   string
		wait   time.Duration
	}{
		"too many requests": {simcloud.Fault{Kind: simcloud.Refuse, Code: 429, RetryAfter: 7 * time.Second}, fault.Throttled, "rate_limit_exceeded", 7 * time.Second},
		"a server error":    {simcloud.Fault{Kind: simcloud.Refuse, Code: 500}, fault.Unavailable, "server_error", 0},
		"an overload":       {simcloud.Fault{Kind: simcloud.Refuse, Code: 503, RetryAfter: 3 * time.Second}, fault.Unavailable, "server_error", 3 * time.Second},
		"a lost connection": {simcloud.Fault{Kind: simcloud.DropBefore}, fault.Unavailable, "", 0},
		"a lost reply":      {simcloud.Fault{Kind: simcloud.LoseReply}, fault.Unavailable, "", 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			cloud, sim, p := start(t, simcloud.OpenAIOptions{})
			_, key := sim.CreateKey(alpha, "k")
			cloud.Inject(c.inject)
			proof, err := p.Probe(t.Context(), alpha, key)
			f := fault.Of(err)
			if proof != (provider.Proof{}) || f.Class != c.class || f.Code != c.code || f.RetryAfter != c.wait || f.Unsettled {
				t.Errorf("%+v, %+v", proof, f)
			}
			if n := cloud.Calls("openai", simcloud.OpenAIListModels); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestAHangingServerIsGivenUpAfterTheTimeOut(t *testing.T) {
	cloud, sim, _ := start(t, simcloud.OpenAIOptions{})
	_, key := sim.CreateKey(alpha, "k")
	release := make(chan struct{})
	defer close(release)
	cloud.Inject(simcloud.Fault{Kind: simcloud.Hold, Release: release})
	p, err := openai.New(openai.Options{BaseURL: sim.URL, RequestTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Probe(t.Context(), alpha, key); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// What answers here is not OpenAI but something on the way, so it is not part of the simulator.
func TestAnAnswerThatIsNotOpenAIsProvesNothing(t *testing.T) {
	key := secret.FromString("sk-proj-0123456789abcdefghijWXYZ")
	answers := map[string]struct {
		status int
		header map[string]string
		body   string
		class  fault.Class
	}{
		"a page of a captive portal":              {200, nil, "<html>sign in</html>", fault.Internal},
		"some JSON":                               {200, nil, `{"status":"ok"}`, fault.Internal},
		"an answer that breaks off":               {200, map[string]string{"Content-Length": "1000"}, `{"object":"list","da`, fault.Unavailable},
		"no content":                              {204, nil, "", fault.Unavailable},
		"a redirect":                              {302, map[string]string{"Location": "/elsewhere"}, `{"object":"list","data":[{"id":"m"}]}`, fault.Internal},
		"a firewall's 403":                        {403, nil, "<html>blocked</html>", fault.AccessDenied},
		"a proxy's 401":                           {401, nil, `{"message":"who are you"}`, fault.AccessDenied},
		"a region that is not served":             {403, nil, `{"error":{"code":"unsupported_country_region_territory","message":"no","param":null,"type":"request_forbidden"}}`, fault.AccessDenied},
		"a 401 with a code that we do not know":   {401, nil, `{"error":{"code":"something_new","message":"x","param":null,"type":"invalid_request_error"}}`, fault.AccessDenied},
		"a 401 whose code is free text":           {401, nil, `{"error":{"code":"bad key sk-proj-0123456789abcdefghijWXYZ","message":"x","param":null,"type":"invalid_request_error"}}`, fault.AccessDenied},
		"a gateway that knows no such path":       {404, nil, "not here", fault.NotFound},
		"a gateway without its server":            {502, nil, "<html>bad gateway</html>", fault.Unavailable},
		"a request that is refused for its form":  {400, nil, `{"error":{"code":null,"message":"x","param":null,"type":"invalid_request_error"}}`, fault.Rejected},
		"a limit of something else than requests": {429, map[string]string{"Retry-After": "5"}, "slow down", fault.Throttled},
	}
	for sentence, a := range answers {
		t.Run(sentence, func(t *testing.T) {
			requests := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				for name, value := range a.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(a.status)
				_, _ = w.Write([]byte(a.body))
			}))
			defer server.Close()
			proof, err := at(t, server.URL+"/v1").Probe(t.Context(), alpha, key)
			if proof != (provider.Proof{}) || !fault.Is(err, a.class) {
				t.Errorf("%+v, %v", proof, err)
			}
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
			if err != nil && (leaks(err.Error(), key) || strings.Contains(fault.Of(err).Code, "sk-")) {
				t.Errorf("part of the key in %v", err)
			}
		})
	}
}

func TestAStoppedServerIsAnOutage(t *testing.T) {
	_, sim, p := start(t, simcloud.OpenAIOptions{})
	_, key := sim.CreateKey(alpha, "k")
	sim.Stop()
	if _, err := p.Probe(t.Context(), alpha, key); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACallerWhoGivesUpGetsAnOutageAndNoVerdict(t *testing.T) {
	cloud, sim, p := start(t, simcloud.OpenAIOptions{})
	_, key := sim.CreateKey(alpha, "k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if proof, err := p.Probe(ctx, alpha, key); proof.Accepted || !fault.Is(err, fault.Unavailable) {
		t.Errorf("%+v, %v", proof, err)
	}
	if n := cloud.Calls("openai", simcloud.OpenAIListModels); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestWhatCannotBeAKeyIsNotSent(t *testing.T) {
	cloud, _, p := start(t, simcloud.OpenAIOptions{})
	for text, code := range map[string]string{
		"hunter2 is my password":               "not_a_key",
		"sk-admin-0123456789abcdefghijklmnop":  "wrong_kind_of_key",
		"sk-ant-api03-0123456789abcdefghijklm": "wrong_kind_of_key",
	} {
		if proof, err := p.Probe(t.Context(), alpha, secret.FromString(text)); err != nil || proof != (provider.Proof{Code: code}) {
			t.Errorf("%+v, %v", proof, err)
		}
	}
	_, err := p.Probe(t.Context(), "my project\r\nX-Evil: 1", secret.FromString("sk-proj-0123456789abcdefghij"))
	if f := fault.Of(err); f.Class != fault.Rejected || f.Advice == "" || strings.Contains(err.Error(), "Evil") {
		t.Errorf("an account that is not a project id: %v", err)
	}
	if n := len(cloud.Journal()); n != 0 {
		t.Errorf("%d events", n)
	}
}

func TestOptionsThatWouldExposeAKeyAreRefused(t *testing.T) {
	for url, good := range map[string]bool{
		"":                                 true,
		"https://eu.api.openai.com/v1":     true,
		"http://127.0.0.1:8080/v1":         true,
		"http://[::1]:8080/v1":             true,
		"http://localhost:8080/v1":         true,
		"http://api.openai.com/v1":         false,
		"http://127.0.0.1.example.com/v1":  false,
		"https://user:pw@api.openai.com/v": false,
		"https://api.openai.com/v1?x=y":    false,
		"https://api.openai.com/v1#x":      false,
		"api.openai.com/v1":                false,
		"ftp://api.openai.com/v1":          false,
		"https://":                         false,
		"://":                              false,
	} {
		_, err := openai.New(openai.Options{BaseURL: url})
		var f *fault.Error
		if good != (err == nil) || err != nil && (!errors.As(err, &f) || f.Class != fault.Rejected || f.Advice == "") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := openai.New(openai.Options{Propagation: -time.Second}); !fault.Is(err, fault.Rejected) {
		t.Errorf("a negative time: %v", err)
	}
}

func TestTheEnvironmentChangesNothingOnLoopback(t *testing.T) {
	_, sim, _ := start(t, simcloud.OpenAIOptions{})
	_, key := sim.CreateKey(alpha, "k")
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://192.0.2.1:9")
	}
	if proof, err := at(t, sim.URL).Probe(t.Context(), alpha, key); err != nil || !proof.Accepted {
		t.Errorf("%+v, %v", proof, err)
	}
}

func TestAPersonIsSentToThePageOfTheProject(t *testing.T) {
	p, _ := openai.New(openai.Options{})
	for account, want := range map[string]string{
		alpha:             "https://platform.openai.com/settings/proj_alpha/api-keys",
		"proj_../../evil": "https://platform.openai.com/settings/organization/api-keys",
		"":                "https://platform.openai.com/settings/organization/api-keys",
	} {
		if got := p.Console(account); got != want {
			t.Errorf("%q: %s", account, got)
		}
	}
	own, _ := openai.New(openai.Options{ConsoleURL: "https://console.example.com/keys"})
	if got := own.Console(alpha); got != "https://console.example.com/keys" {
		t.Error(got)
	}
}

// childProbe makes the test binary probe a key at OpenAI's European address and do nothing else: Go reads the proxy
// variables once for a process.
const childProbe = "REKEY_TEST_PROBE"

func TestTheProxyOfTheEnvironmentIsUsedAndSeesNoKey(t *testing.T) {
	if os.Getenv(childProbe) != "" {
		_, err := at(t, "https://eu.api.openai.com/v1").Probe(t.Context(), alpha, secret.FromString("sk-proj-0123456789abcdefghijWXYZ"))
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("a proxy that refuses: %v", err)
		}
		return
	}
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprint(r.Method, " ", r.Host, " ", r.Header.Get("Authorization")))
		w.WriteHeader(http.StatusForbidden)
	}))
	defer proxy.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), childProbe+"=1", "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"CONNECT eu.api.openai.com:443 "}; !slices.Equal(asked, want) {
		t.Errorf("the proxy was asked %q, want %q", asked, want)
	}
}
