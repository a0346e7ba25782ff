package simcloud

import (
	"crypto/rand"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rekeyhq/rekey/secret"
)

// openAIService is the name of the simulated OpenAI in the journal and in faults.
const openAIService = "openai"

// The methods of the simulated OpenAI, as Event.Method and Fault.Method name them.
const (
	OpenAIListModels = "ListModels"
	OpenAIChat       = "CreateChatCompletion"
)

// OpenAIOptions say what the simulated organisation looks like. The zero value is good for tests.
type OpenAIOptions struct {
	// Organization is the id that answers carry; empty means "org-simcloud".
	Organization string
	// Models can be used by every project; empty means two.
	Models []string
	// RequestsPerMinute is the rate limit of each project; 0 means none.
	RequestsPerMinute int
	// MissingScope is the status for a key whose scopes do not allow a request: 403 (also if 0) or 401.
	// Users of the real one report both, always with the code null and the missing scopes in the text.
	MissingScope int
}

// OpenAI is OpenAI's API on loopback, for the calls that a project key may make: list models and chat
// completions. Its other methods are what a person can do in the console (openai_console.go).
//
// Requests be in the journal with the target `<project>/<key id>` of the key that they came with, or none.
type OpenAI struct {
	// URL is the base address of the API, with /v1.
	URL string

	cloud   *Cloud
	options OpenAIOptions
	stop    func()

	mu        sync.Mutex
	keys      []*openAIKey
	exhausted map[string]bool
	allowed   map[string][]netip.Prefix
	regions   map[string]string
	limits    map[string]*rate.Limiter
}

// openAIKey is one key with the moments at which the authentication cache learns of its changes.
type openAIKey struct {
	OpenAIKey
	project string
	value   secret.Value
	deleted bool
	// acceptedFrom, refusedFrom and narrowFrom are in the cloud's time; zero means never.
	acceptedFrom, refusedFrom, narrowFrom time.Time
}

// StartOpenAI starts a simulated OpenAI. Stop ends it.
func (c *Cloud) StartOpenAI(options OpenAIOptions) (*OpenAI, error) {
	if options.Organization == "" {
		options.Organization = "org-simcloud"
	}
	if len(options.Models) == 0 {
		options.Models = []string{"gpt-5", "gpt-5-mini"}
	}
	if options.MissingScope == 0 {
		options.MissingScope = http.StatusForbidden
	}
	o := &OpenAI{
		cloud: c, options: options,
		exhausted: map[string]bool{}, allowed: map[string][]netip.Prefix{}, regions: map[string]string{}, limits: map[string]*rate.Limiter{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", o.authenticated("api.model.read", o.listModels))
	mux.HandleFunc("POST /v1/chat/completions", o.authenticated("", o.chat))
	mux.HandleFunc("/", o.unknownURL)
	url, stop, err := c.ServeHTTP(openAIService, o.route, o.injected, o.headers(mux))
	if err != nil {
		return nil, err
	}
	o.URL, o.stop = url+"/v1", stop
	c.IdentifyWith(o.identify)
	return o, nil
}

// Stop ends the service. Its keys stay in the journal.
func (o *OpenAI) Stop() { o.stop() }

func (o *OpenAI) route(r *http.Request) (method, target string) {
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/models":
		method = OpenAIListModels
	case "POST /v1/chat/completions":
		method = OpenAIChat
	default:
		method = r.Method + " " + r.URL.Path
	}
	if k := o.find(bearer(r)); k != nil {
		target = k.project + "/" + k.ID
	}
	return method, target
}

// headers adds what every answer of OpenAI carries (OpenAI's docs: debugging requests).
func (o *OpenAI) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req_"+strings.ToLower(rand.Text()))
		w.Header().Set("Openai-Version", "2020-10-01")
		w.Header().Set("Openai-Processing-Ms", "1")
		next.ServeHTTP(w, r)
	})
}

// authenticated lets a request through to next if its key is known, may come from here, belongs where the
// headers say, has scope (empty: every key has it), has quota and is within the rate limit.
func (o *OpenAI) authenticated(scope string, next func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r)
		if token == "" {
			noKey().write(w)
			return
		}
		k, project, refusal := o.admit(token, scope, r)
		if k != nil {
			w.Header().Set("Openai-Organization", o.options.Organization)
			w.Header().Set("Openai-Project", project)
		}
		if refusal != nil {
			refusal.write(w)
			return
		}
		next(w, r)
	}
}

// admit decides about one request; k is nil if the key is not accepted at all.
func (o *OpenAI) admit(token, scope string, r *http.Request) (k *openAIKey, project string, refusal *openAIError) {
	now := o.cloud.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	k = o.findLocked(token)
	if k == nil || now.Before(k.acceptedFrom) || reached(now, k.refusedFrom) {
		return nil, "", wrongKey(token)
	}
	project = k.project
	if region := o.regions[project]; region != "" && r.Host != regionalHost(region) {
		return k, project, incorrectHostname(region)
	}
	if prefixes, limited := o.allowed[project]; limited && !permits(prefixes, r.RemoteAddr) {
		return k, project, addressNotAuthorized()
	}
	if org := r.Header.Get("OpenAI-Organization"); org != "" && org != o.options.Organization {
		return k, project, otherOrganization()
	}
	if p := r.Header.Get("OpenAI-Project"); p != "" && p != project {
		return k, project, otherProject()
	}
	if scope != "" && reached(now, k.narrowFrom) {
		return k, project, missingScope(o.options.MissingScope, scope)
	}
	// Nobody documents which routes an exhausted quota spares; here it spares none.
	if o.exhausted[project] {
		return k, project, noQuota()
	}
	if wait := o.throttleLocked(project, now); wait > 0 {
		return k, project, tooManyRequests(wait)
	}
	return k, project, nil
}

// throttleLocked says how long a project has to wait for its next request; 0 means that it may go on.
func (o *OpenAI) throttleLocked(project string, now time.Time) time.Duration {
	perMinute := o.options.RequestsPerMinute
	if perMinute == 0 {
		return 0
	}
	limit := o.limits[project]
	if limit == nil {
		limit = rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
		o.limits[project] = limit
	}
	reservation := limit.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (o *OpenAI) find(token string) *openAIKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.findLocked(token)
}

func (o *OpenAI) findLocked(token string) *openAIKey {
	if token == "" {
		return nil
	}
	v := secret.FromString(token)
	i := slices.IndexFunc(o.keys, func(k *openAIKey) bool { return k.value.Equal(v) })
	if i < 0 {
		return nil
	}
	return o.keys[i]
}

// identify knows deleted keys too: the journal asks about stored values, and a store may hold a dead one.
func (o *OpenAI) identify(v secret.Value) (keyID string, ok bool) {
	if k := o.find(v.Reveal()); k != nil {
		return k.ID, true
	}
	return "", false
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// reached reports whether moment has come; the zero moment never comes.
func reached(now, moment time.Time) bool { return !moment.IsZero() && !now.Before(moment) }

func permits(prefixes []netip.Prefix, remote string) bool {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(address.Addr().Unmap()) })
}
