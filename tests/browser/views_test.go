package browser

import (
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func TestEachSavedViewOfTheRunbookShowsWhatItIsFor(t *testing.T) {
	needsBrowser(t)
	p := shared.sit(t)
	views := savedViews(t)
	shared.start(t, waitingKey, rotation.Manual)
	shared.start(t, emergencyKey, rotation.Emergency)
	shared.start(t, returnedKey, rotation.Manual)
	shared.decide(t, returnedKey, rotation.RollBack, rotation.DecisionMessage{By: "ops@example.com", Why: "not today"})

	mine := []string{waitingKey, emergencyKey, returnedKey}
	for _, c := range []struct {
		view string
		// now is the time that the operator puts into the query.
		now time.Time
		// opened: the view is opened in the browser too, not only listed.
		opened bool
		want   []string
	}{
		{"waits for a person", time.Now(), true, []string{waitingKey, emergencyKey}},
		{"overdue", time.Now(), false, nil},
		{"overdue", time.Now().Add(8 * 24 * time.Hour), true, []string{waitingKey, emergencyKey}},
		{"emergencies", time.Now(), true, []string{emergencyKey}},
		{"rolled back today", time.Now().Add(-time.Hour), true, []string{returnedKey}},
		{"rolled back today", time.Now().Add(time.Hour), false, nil},
		{"both keys live", time.Now(), false, nil},
		{"rolling back", time.Now(), false, nil},
		{"one key", time.Now(), false, nil},
		{"beats that could not ask", time.Now(), false, nil},
		{"reports of leaks that nobody could place", time.Now(), false, nil},
		{"one provider, by hand", time.Now(), false, []string{waitingKey, returnedKey}},
	} {
		query, ok := views[c.view]
		if !ok {
			t.Errorf("docs/operating.md has no view %q", c.view)
			continue
		}
		query = moment.ReplaceAllString(query, c.now.UTC().Format(time.RFC3339))
		if c.view == "one key" {
			query, c.want = strings.ReplaceAll(query, "openai-prod", waitingKey), []string{waitingKey}
		}
		if !c.opened {
			shared.lists(t, query, mine, c.want)
			continue
		}
		p.goTo("workflows", url.Values{"query": {query}})
		p.until(c.view+": "+query, func() (bool, error) {
			text, err := eval[string](p, page)
			if err != nil || !strings.Contains(text, "Workflow ID") && !strings.Contains(text, "No Workflows") {
				return false, err
			}
			for _, key := range mine {
				if strings.Contains(text, workflows.ID(key)) != slices.Contains(c.want, key) {
					return false, nil
				}
			}
			return true, nil
		})
		p.picture(strings.ReplaceAll(c.view, " ", "-"))
	}
}

// moment is a time in a query.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// savedViews reads the table of docs/operating.md.
func savedViews(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n## Saved views\n")
	section, _, _ := strings.Cut(after, "\n## ")
	views := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^`]+)` \\|$").FindAllStringSubmatch(section, -1) {
		views[row[1]] = row[2]
	}
	return views
}
