package workflows_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/markdowntest"
	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

var updateGolden = flag.Bool("update", false, "write the golden files of testdata anew")

// golden compares the details, at some moments of a run, with the golden files, and checks what must hold for each.
type golden struct {
	*fixture
	begin time.Time
	seen  []string
}

// see looks at the details now. Each name is a file of testdata/details.
func (g *golden) see(name string) {
	g.Helper()
	s := g.status()
	g.seen = append(g.seen, name)
	g.check(name, s)
	got := g.normal(s.Details)
	file := filepath.Join("testdata", "details", name+".md")
	if *updateGolden {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			g.Error(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		g.Errorf("%v (go test ./workflows -run Details -update writes it)", err)
		return
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		g.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

var (
	fullTime  = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d UTC|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	day8      = regexp.MustCompile(`\d{4}-\d\d-\d\d`)
	shownKey  = regexp.MustCompile(`sk-\.\.\.[A-Za-z0-9_-]{4}`)
	googleKey = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	hash      = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	stampText = regexp.MustCompile(`rekey-scene1-([a-z]+)-[a-z2-7]{8}-\d\d`)
)

// normal takes out what differs from run to run: times become hours since the begin, names of keys are numbered.
func (g *golden) normal(text string) string {
	text = fullTime.ReplaceAllStringFunc(text, func(s string) string {
		at, err := time.Parse("2006-01-02 15:04 MST", s)
		if err != nil {
			at, err = time.Parse(time.RFC3339, s)
		}
		if err != nil {
			g.Error(err)
		}
		return fmt.Sprintf("<+%dh>", int(at.Sub(g.begin).Round(time.Hour).Hours()))
	})
	text = day8.ReplaceAllString(text, "<date>")
	for _, p := range []struct {
		what *regexp.Regexp
		name string
	}{{stampText, "stamp"}, {shownKey, "sk-...end"}, {googleKey, "key-id"}, {hash, "fingerprint"}} {
		known := map[string]string{}
		text = p.what.ReplaceAllStringFunc(text, func(s string) string {
			if known[s] == "" {
				known[s] = fmt.Sprintf("<%s %d>", p.name, len(known)+1)
			}
			return known[s]
		})
	}
	return text
}

var (
	proposed = regexp.MustCompile("name `([^`]*)`, data `([^`]*)`")
	items    = regexp.MustCompile(`(?m)^(\d+\.|-) .*$`)
)

// consoles are the hosts of the providers' and stores' consoles.
var consoles = []string{"platform.openai.com", "console.cloud.google.com"}

// check looks at what must hold for the details at any moment.
func (g *golden) check(name string, s rotation.Status) {
	g.Helper()
	d := s.Details
	if len(d) >= 2048 || strings.HasSuffix(strings.TrimSpace(d), "…") {
		g.Errorf("%s: %d bytes, or cut off:\n%s", name, len(d), d)
	}
	if found := secretsearch.New(g.secrets()...).In([]byte(d)); len(found) > 0 {
		g.Errorf("%s: parts of keys stand there: %v", name, found)
	}
	otherwise := strings.Count(d, "If nobody acts by ") + strings.Count(d, "**Overdue** since ")
	if waits := s.Phase.Waiting() || !s.Deadline.IsZero(); waits && otherwise != 1 || !waits && otherwise != 0 {
		g.Errorf("%s: says %d times what happens if nobody acts", name, otherwise)
	}
	if todo := strings.Contains(d, "**What to do now**"); todo == strings.Contains(d, "No action needed") && !s.Phase.Closed() && !strings.Contains(d, "tries again by itself") {
		g.Errorf("%s: a person does not know whether there is something to do:\n%s", name, d)
	}
	for _, m := range proposed.FindAllStringSubmatch(d, -1) {
		kind := rotation.DecisionKind(m[1])
		if !slices.Contains(s.Accepts, kind) {
			g.Errorf("%s: %s would not be taken now; it takes %v", name, kind, s.Accepts)
		}
		var message rotation.DecisionMessage
		in := json.NewDecoder(strings.NewReader(m[2]))
		in.DisallowUnknownFields()
		if err := in.Decode(&message); err != nil {
			g.Errorf("%s: %s: %v in %s", name, kind, err, m[2])
		}
		if err := complete(kind, message); err != nil {
			g.Errorf("%s: %s %s would be refused: %v", name, kind, m[2], err)
		}
	}
	if n := strings.Count(d, `{"`) - strings.Count(d, "It takes: "); n > len(proposed.FindAllString(d, -1))+strings.Count(d, "**Note:**") {
		g.Errorf("%s: there is input that no message is named for:\n%s", name, d)
	}
	for _, l := range markdowntest.Links(d) {
		if u, err := url.Parse(l); err != nil || u.Scheme != "https" || !slices.Contains(consoles, u.Host) {
			g.Errorf("%s: the link %q does not go to a console", name, l)
		}
	}
	if strings.Contains(d, "<") {
		g.Errorf("%s: something is written like HTML:\n%s", name, d)
	}
	for _, line := range strings.Split(d, "\n") {
		if strings.Count(line, "`")%2 != 0 || strings.Count(line, "**")%2 != 0 {
			g.Errorf("%s: markup that does not end: %s", name, line)
		}
	}
	for _, item := range items.FindAllString(d, -1) {
		if !strings.HasSuffix(item, ".") && !strings.HasSuffix(item, "…") && !strings.Contains(item, "https://") {
			g.Errorf("%s: no full stop: %s", name, item)
		}
	}
}

// complete reports whether a message has all that its kind needs, in a phase that is for it.
func complete(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	now := time.Now()
	steps := map[rotation.DecisionKind]rotation.Step{
		rotation.Approve: rotation.StepApproval, rotation.Reject: rotation.StepApproval, rotation.KeySupplied: rotation.StepAwaitKey,
		rotation.KeyRevoked: rotation.StepAwaitRevocation,
	}
	step, ok := steps[kind]
	if !ok {
		step = rotation.StepGrace
	}
	s := rotation.DecisionContext{
		State: rotation.State{Step: step, Commitment: rotation.BothKeys}, Now: now, Extendable: true, GraceUntil: now.Add(time.Hour), GraceCap: now.Add(100 * day),
		Deadline: now.Add(time.Hour), WaitCap: now.Add(100 * day), Question: m.Question,
	}
	return s.Check(kind, m)
}

// secrets are all values that exist in the scene.
func (r *fixture) secrets() []secret.Value {
	all := append(r.OpenAI.Made(), r.First("ci"), r.First("gpt"))
	return slices.DeleteFunc(all, func(v secret.Value) bool { return v.IsEmpty() || !secretsearch.Searches(v) })
}

func TestTheDetailsOfRealRunsAreAsTheGoldenOnes(t *testing.T) {
	t.Parallel()
	var seen []string
	for _, sc := range goldenCases() {
		t.Run(sc.name, func(t *testing.T) {
			r := newFixture(t, sc.setup)
			g := &golden{fixture: r, begin: r.now()}
			sc.play(g)
			seen = append(seen, g.seen...)
			if len(g.seen) == 0 {
				t.Error("nothing was looked at")
			}
		})
	}
	slices.Sort(seen)
	files, err := filepath.Glob("testdata/details/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".md"); !slices.Contains(seen, name) && !t.Failed() && flag.Lookup("test.run").Value.String() == "" {
			t.Errorf("%s is looked at by no test", f)
		}
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] == seen[i-1] {
			t.Errorf("%s is looked at twice", seen[i])
		}
	}
}
