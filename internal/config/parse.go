package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store/local"
)

// Parse reads the text of a file; name is for messages, and relative paths in it start at its folder.
func Parse(name string, text []byte) (*Config, error) {
	f, tree, problems := read(name, text)
	if len(problems) > 0 {
		return nil, problems
	}
	c := &check{name: name, tree: tree, file: f, places: map[rotation.Location]string{}, out: &Config{Providers: map[string]Provider{}, Stores: map[string]Store{}, Paused: map[string]bool{}}}
	c.run()
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, c.problems
	}
	return c.out, nil
}

// check turns a file into a Config and collects everything that is wrong with it.
type check struct {
	name     string
	tree     *ast.File
	file     file
	out      *Config
	problems Problems
	// places are those that a key of the file has taken.
	places map[rotation.Location]string
}

// yamlPath is a place in the file: "$.keys[0].tier".
type yamlPath string

func (a yamlPath) field(name string) yamlPath { return a + yamlPath("."+name) }
func (a yamlPath) index(i int) yamlPath       { return a + yamlPath(fmt.Sprintf("[%d]", i)) }

// entry is a member of a map whose name people chose.
func (a yamlPath) entry(name string) yamlPath {
	return a + yamlPath(".'"+strings.ReplaceAll(name, "'", "\\'")+"'")
}

// problem notes what is wrong at a place, or at the nearest place around it that the file has.
func (c *check) problem(where yamlPath, format string, args ...any) {
	p := Problem{File: c.name, Message: fmt.Sprintf("%s: %s", strings.TrimPrefix(strings.ReplaceAll(string(where), "'", ""), "$."), fmt.Sprintf(format, args...))}
	for place := string(where); ; {
		if found, err := yaml.PathString(place); err == nil {
			if node, err := found.FilterFile(c.tree); err == nil && node != nil && node.GetToken() != nil {
				position := node.GetToken().Position
				p.Line, p.Column = position.Line, position.Column
				break
			}
		}
		cut := strings.LastIndexAny(place, ".[")
		if cut <= 0 {
			break
		}
		place = place[:cut]
	}
	c.problems = append(c.problems, p)
}

func (c *check) run() {
	switch {
	case c.file.Install == "":
		c.problem("$.install", "missing; expected six characters a-z, 0-9 that no other rekey installation has")
	case !rotation.ValidInstall(c.file.Install):
		c.problem("$.install", "%q is not a valid install id; expected six characters a-z, 0-9", c.file.Install)
	}
	c.out.Install = c.file.Install
	for _, name := range slices.Sorted(maps.Keys(c.file.Providers)) {
		c.provider(name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.file.Stores)) {
		c.store(name)
	}
	for _, tier := range slices.Sorted(maps.Keys(c.file.Tiers)) {
		if !rotation.Tier(tier).Valid() {
			c.problem(yamlPath("$.tiers").entry(tier), "there is no such tier; expected %s", oneOf(rotation.Tiers()))
		}
	}
	c.channels()
	c.operators()
	names := map[string]bool{}
	for i := range c.file.Keys {
		c.key(i, names)
	}
	c.conflicts()
	c.triggers()
}

func (c *check) provider(name string) {
	f, where := c.file.Providers[name], yamlPath("$.providers").entry(name)
	p := Provider{Type: f.Type, Mode: f.Mode, Organization: f.Organization, accounts: f.Accounts}
	c.choice(where.field("type"), f.Type, true, OpenAI, GoogleServiceAccount)
	c.onlyForType(where, "mode", f.Mode, f.Type, GoogleServiceAccount)
	c.onlyForType(where, "token_url", f.TokenURL, f.Type, GoogleServiceAccount)
	c.onlyForType(where, "list_lag", f.ListLag, f.Type, GoogleServiceAccount)
	c.onlyForType(where, "organization", f.Organization, f.Type, OpenAI)
	c.choice(where.field("mode"), f.Mode, false, "upload", "create")
	if f.Type == GoogleServiceAccount {
		p.Endpoint = f.Endpoint
		c.loopback(where.field("endpoint"), f.Endpoint)
		if f.Endpoint != "" && f.TokenURL == "" {
			c.problem(where.field("token_url"), "missing; an endpoint of your own needs a token endpoint of your own")
		}
	} else {
		p.Endpoint = c.url(where.field("endpoint"), f.Endpoint)
	}
	p.TokenURL = c.url(where.field("token_url"), f.TokenURL)
	p.RequestTimeout = c.positive(where.field("request_timeout"), f.RequestTimeout)
	p.ListLag = c.optional(where.field("list_lag"), f.ListLag)
	p.Propagation = c.optional(where.field("propagation"), f.Propagation)
	p.RevocationLag = c.optional(where.field("revocation_lag"), f.RevocationLag)
	p.Limit = c.limit(where, f)
	c.patterns(where.field("accounts"), f.Accounts)
	c.out.Providers[name] = p
}

func (c *check) store(name string) {
	f, where := c.file.Stores[name], yamlPath("$.stores").entry(name)
	s := Store{Type: f.Type, Project: f.Project, Readers: f.Readers, Endpoint: f.Endpoint, paths: f.Paths}
	c.choice(where.field("type"), f.Type, true, GoogleSecretManager, AWSSecretsManager, Local)
	for _, o := range []struct{ field, value string }{{"project", f.Project}, {"readers", f.Readers}} {
		c.onlyForType(where, o.field, o.value, f.Type, GoogleSecretManager)
	}
	for _, o := range []struct{ field, value string }{{"request_timeout", f.RequestTimeout}, {"read_lag", f.ReadLag}, {"endpoint", f.Endpoint}} {
		c.onlyForTypes(where, o.field, o.value, f.Type, GoogleSecretManager, AWSSecretsManager)
	}
	if f.Type == GoogleSecretManager {
		c.loopback(where.field("endpoint"), f.Endpoint)
	}
	c.awsStore(where, f, &s)
	c.onlyForType(where, "dir", f.Dir, f.Type, Local)
	c.onlyForType(where, "identity", f.Identity, f.Type, Local)
	c.choice(where.field("readers"), f.Readers, false, "alias", "latest")
	if f.Type == GoogleSecretManager && f.Project == "" {
		c.problem(where.field("project"), "missing; expected the id of the Google Cloud project that holds the secrets")
	}
	if f.Type == Local {
		s.Dir, s.Identity = c.filePath(where.field("dir"), f.Dir), c.filePath(where.field("identity"), f.Identity)
		if inside(s.Identity, s.Dir) {
			c.problem(where.field("identity"), "lies in the folder that it decrypts (dir): whoever copies that has every key; expected a path outside of it")
		}
	}
	s.RequestTimeout = c.positive(where.field("request_timeout"), f.RequestTimeout)
	s.ReadLag = c.optional(where.field("read_lag"), f.ReadLag)
	c.patterns(where.field("paths"), f.Paths)
	c.out.Stores[name] = s
}

// filePath makes a path that is relative to the folder of rekey.yaml absolute.
func (c *check) filePath(where yamlPath, name string) string {
	if name == "" {
		c.problem(where, "missing; expected a path, from the folder of %s", filepath.Base(c.name))
		return ""
	}
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(filepath.Dir(c.name), name)
}

// inside reports whether a file lies in a folder, as far as their names tell.
func inside(file, dir string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && file != "" && dir != "" && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// path checks the name of a key's secret by the type of its store.
func (c *check) path(where yamlPath, storeName, path string) {
	switch kind := c.file.Stores[storeName].Type; {
	case path == "":
	case kind == Local && !local.ValidPath(path):
		c.problem(where, "%q cannot name a file of the store; expected 1 to 128 letters, digits, dots, hyphens and underscores, the first a letter or digit", path)
	case kind == GoogleSecretManager && !googleSecret.MatchString(path):
		c.problem(where, "%q is not a valid secret id; expected 1 to 255 letters, digits, hyphens and underscores", path)
	case kind == AWSSecretsManager:
		c.awsPath(where, path)
	}
}

var (
	openAIProject = regexp.MustCompile(`^proj_[A-Za-z0-9_-]{1,64}$`)
	// googleSecret is the id of a secret in Google's Secret Manager.
	googleSecret = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
)

func (c *check) key(i int, names map[string]bool) {
	f, where := c.file.Keys[i], yamlPath("$.keys").index(i)
	switch {
	case f.Name == "":
		c.problem(where.field("name"), "missing; every key has a name")
	case !rotation.ValidKeyName(f.Name):
		c.problem(where.field("name"), "%q cannot name a key; expected 1 to %d characters a-z, 0-9 and inner hyphens", f.Name, rotation.MaxKeyName)
	case names[f.Name]:
		c.problem(where.field("name"), "another key is called %q already", f.Name)
	}
	names[f.Name] = true
	k := rotation.Key{Name: f.Name, Provider: f.Provider, Account: f.Account, Tier: rotation.Tier(f.Tier)}
	c.reference(where.field("provider"), "provider", f.Provider, slices.Sorted(maps.Keys(c.file.Providers)))
	if f.Account == "" {
		c.problem(where.field("account"), "missing; expected what the provider keeps keys of: a service account's email, an OpenAI project (proj_…)")
	}
	if f.Account != "" && c.file.Providers[f.Provider].Type == OpenAI && !openAIProject.MatchString(f.Account) {
		c.problem(where.field("account"), "%q is not a valid OpenAI project; expected its id, proj_…, as the console shows it", f.Account)
	}
	if len(f.Stores) == 0 {
		c.problem(where.field("stores"), "missing; expected at least one {store: …, path: …}")
	}
	for n, l := range f.Stores {
		place := where.field("stores").index(n)
		c.reference(place.field("store"), "store", l.Store, slices.Sorted(maps.Keys(c.file.Stores)))
		if l.Path == "" {
			c.problem(place.field("path"), "missing; expected the name of the secret in the store")
		}
		c.path(place.field("path"), l.Store, l.Path)
		location := rotation.Location{Store: l.Store, Path: l.Path}
		if other, taken := c.places[location]; taken {
			c.problem(place, "%s holds key %s already; two keys cannot share a path", location, other)
		}
		c.places[location] = k.Name
		k.Stores = append(k.Stores, location)
	}
	if f.Tier == "" {
		k.Tier = rotation.Production
	}
	c.choice(where.field("tier"), f.Tier, false, text(rotation.Tiers())...)
	k.Policy = rotation.Preset(k.Tier)
	c.policy(yamlPath("$.tiers").entry(string(k.Tier)), c.file.Tiers[string(k.Tier)], &k.Policy)
	c.policy(where.field("policy"), f.Policy, &k.Policy)
	asks := yamlPath("$.tiers").entry(string(k.Tier))
	if f.Policy.FourEyes != nil {
		asks = where.field("policy")
	}
	c.fourEyes(asks.field("four_eyes"), &k.Policy)
	c.consistent(where, k.Policy)
	c.outlives(where, f, k.Policy)
	c.out.Keys = append(c.out.Keys, k)
	if f.Paused {
		c.out.Paused[f.Name] = true
	}
}

// policy lays what a file says over p.
func (c *check) policy(where yamlPath, f filePolicy, p *rotation.Policy) {
	for _, o := range []struct {
		field, text string
		to          *rotation.Duration
		zero        bool
	}{
		{"period", f.Period, &p.Period, false}, {"grace", f.Grace, &p.Grace, true}, {"max_grace", f.MaxGrace, &p.MaxGrace, true},
		{"quiet", f.Quiet, &p.Quiet, true}, {"soak", f.Soak, &p.Soak, true}, {"patience", f.Patience, &p.Patience, false},
		{"recheck", f.Recheck, &p.Recheck, false}, {"step_timeout", f.StepTimeout, &p.StepTimeout, false},
		{"escalate_after", f.EscalateAfter, &p.EscalateAfter, false}, {"remind", f.Remind, &p.Remind, false},
	} {
		if d := c.optional(where.field(o.field), o.text); d != nil {
			if *d == 0 && !o.zero {
				c.problem(where.field(o.field), "must be longer than 0")
			}
			*o.to = rotation.Duration(*d)
		}
	}
	if f.Grace != "" && f.MaxGrace == "" {
		p.MaxGrace = p.Grace + rotation.Duration(7*24*time.Hour)
	}
	if f.UnknownUse != "" {
		c.choice(where.field("unknown_use"), f.UnknownUse, true, text([]rotation.UnknownUse{rotation.UnknownTimer, rotation.UnknownApprove, rotation.UnknownNever})...)
		p.UnknownUse = rotation.UnknownUse(f.UnknownUse)
	}
	if f.Approve != nil {
		p.Approve = *f.Approve
	}
	if f.FourEyes != nil {
		p.FourEyes = *f.FourEyes
	}
	c.window(where, f, &p.Window)
	c.notifications(where, f, p)
}

func (c *check) consistent(where yamlPath, p rotation.Policy) {
	c.checkNotifications(where, p)
	if p.MaxGrace < p.Grace {
		c.problem(where.field("policy").field("max_grace"), "%s is shorter than the grace period of %s", p.MaxGrace, p.Grace)
	}
	if p.Period <= p.Grace+p.Soak {
		c.problem(where.field("policy").field("period"), "%s does not leave room for a grace period of %s and a soak of %s", p.Period, p.Grace, p.Soak)
	}
}

// outlives refuses a step that ends before its requests do: every rotation would end with its first step.
func (c *check) outlives(where yamlPath, f fileKey, p rotation.Policy) {
	provider, ok := c.out.Providers[f.Provider]
	if !ok {
		return
	}
	request := provider.RequestTimeout
	if request == 0 {
		request = defaultRequestTimeout
	}
	if time.Duration(p.StepTimeout) <= request {
		c.problem(where.field("policy").field("step_timeout"), "%s is not longer than a request to %s may take (request_timeout, %s); a step must outlive its requests", p.StepTimeout, f.Provider, rotation.Duration(request))
	}
}

// defaultRequestTimeout is that of every provider.
const defaultRequestTimeout = 30 * time.Second

func (c *check) choice(where yamlPath, value string, required bool, options ...string) {
	switch {
	case value == "" && required:
		c.problem(where, "missing; expected %s", oneOf(options))
	case value != "" && !slices.Contains(options, value):
		c.problem(where, "%q is not known; expected %s", value, oneOf(options))
	}
}

// onlyForType refuses a field that another type would need: it would be ignored otherwise, and somebody counts on it.
func (c *check) onlyForType(where yamlPath, field, value, have, want string) {
	if value != "" && have != want {
		c.problem(where.field(field), "is for type %s only; this one is %s", want, have)
	}
}

func (c *check) reference(where yamlPath, what, name string, have []string) {
	switch {
	case name == "":
		c.problem(where, "missing; expected the name of a %s", what)
	case !slices.Contains(have, name):
		c.problem(where, "there is no %s %q; expected %s", what, name, oneOf(have))
	}
}

func (c *check) url(where yamlPath, value string) string {
	if value == "" {
		return ""
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		c.problem(where, "%q is not a valid URL; expected https://…", value)
		return ""
	}
	if h := u.Hostname(); u.Scheme == "http" && h != "127.0.0.1" && h != "localhost" && h != "::1" {
		c.problem(where, "%q would send keys unencrypted; expected https://…", value)
	}
	return value
}

// loopback checks host:port of a gRPC service, which is reached without TLS.
func (c *check) loopback(where yamlPath, value string) {
	if value == "" {
		return
	}
	host, _, err := net.SplitHostPort(value)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		c.problem(where, "%q is not host:port on loopback; leave it out to reach Google", value)
	}
}

func (c *check) optional(where yamlPath, value string) *time.Duration {
	if value == "" {
		return nil
	}
	d, err := rotation.ParseDuration(value)
	if err != nil {
		c.problem(where, "%q is not a valid duration; expected one like 30d, 48h or 15m", value)
		return nil
	}
	out := time.Duration(d)
	return &out
}

func (c *check) positive(where yamlPath, value string) time.Duration {
	d := c.optional(where, value)
	if d == nil {
		return 0
	}
	if *d <= 0 {
		c.problem(where, "must be longer than 0")
	}
	return *d
}

func (c *check) patterns(where yamlPath, patterns []string) {
	for i, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			c.problem(where.index(i), "%q is not a valid pattern; expected a name in which * stands for any text", p)
		}
	}
}

func text[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// oneOf lists what was expected: "a, b or c".
func oneOf[T ~string](values []T) string {
	switch len(values) {
	case 0:
		return "none, because the file defines none"
	case 1:
		return string(values[0])
	}
	head := strings.Join(text(values[:len(values)-1]), ", ")
	return head + " or " + string(values[len(values)-1])
}
