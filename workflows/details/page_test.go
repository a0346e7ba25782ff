package details_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

var updateGolden = flag.Bool("update", false, "write the golden files of testdata anew")

const (
	providerConsole = "https://platform.openai.com/settings/proj_gpt/api-keys"
	storeConsole    = "https://console.cloud.google.com/security/secret-manager/secret/gpt/versions?project=acme-prod"
)

var (
	begin    = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	deadline = begin.Add(7 * 24 * time.Hour)

	oldKey = details.Key{Fingerprint: "0a1b2c3d4e5f", Shown: "sk-...AbCd", AddedAt: begin.Add(-90 * 24 * time.Hour)}
	newKey = details.Key{Fingerprint: "5f4e3d2c1b0a", Shown: "sk-...WxYz", AddedAt: begin.Add(time.Hour)}
)

// page is a page of a rotation at a step, an hour after its begin, with nothing out of the ordinary.
func page(step rotation.Step, c rotation.Commitment) details.Page {
	p := details.Page{
		Key: "gpt", Provider: "openai", Account: "proj_gpt", First: rotation.Location{Store: "gsm", Path: "gpt"},
		Rotation: "4oymiquy", Reason: rotation.Manual, StartedAt: begin,
		Context: rotation.DecisionContext{
			State: rotation.State{Step: step, Commitment: c}, Now: begin.Add(time.Hour), Extendable: true,
			GraceUntil: begin.Add(49 * time.Hour), GraceCap: begin.Add(20 * 24 * time.Hour),
		},
		Old: []details.Key{oldKey}, New: &newKey, Incoming: &newKey, Outgoing: []details.Key{oldKey},
		ProviderConsole: providerConsole, StoreConsole: storeConsole, SoakUntil: begin.Add(50 * time.Hour),
	}
	if c == rotation.Reversing {
		p.Incoming, p.Outgoing = &oldKey, []details.Key{newKey}
	}
	if step.Phase().Waiting() {
		p.Context.Deadline, p.Context.WaitCap = deadline, deadline.Add(30*24*time.Hour)
	}
	if step == rotation.StepApproval {
		p.Context.Question = "use-unknown-4oymiquy-1"
		p.Question = details.Question{ID: "use-unknown-4oymiquy-1", Text: "It is not known whether the old key is in use", Approve: "revoke the old key", Reject: "return to the old key instead"}
		p.AtDeadline = details.RollsBack
	}
	return p
}

// with changes a page.
func with(p details.Page, change func(*details.Page)) details.Page {
	change(&p)
	return p
}

func emergency(p *details.Page) { p.Reason = rotation.Emergency }

func blocked(p *details.Page) {
	p.Why, p.Blocked = "read secret gpt (gsm): unavailable", true
	p.Context.Deadline, p.Context.WaitCap = deadline, deadline.Add(30*24*time.Hour)
}

func overdue(p *details.Page) { p.Context.Now = deadline.Add(time.Hour) }

// golden are the pages, by what they show. A name is a file of testdata.
func golden() map[string]string {
	all := map[string]string{}
	for _, steps := range []struct {
		commitment rotation.Commitment
		way        string
		steps      []rotation.Step
	}{
		{rotation.Looking, "looking", []rotation.Step{rotation.StepConflicts, rotation.StepPrepare}},
		{rotation.Staged, "staged", []rotation.Step{rotation.StepCreate, rotation.StepAwaitKey, rotation.StepAdopt, rotation.StepStore, rotation.StepVerify}},
		{rotation.BothKeys, "both keys", []rotation.Step{
			rotation.StepPromote, rotation.StepGrace, rotation.StepRecheck, rotation.StepGuard, rotation.StepApproval, rotation.StepDisable, rotation.StepSoak, rotation.StepAwaitRevocation,
		}},
		{rotation.ForwardOnly, "forward only", []rotation.Step{
			rotation.StepContain, rotation.StepAwaitContainment, rotation.StepApproval, rotation.StepDelete, rotation.StepConfirm, rotation.StepRetire, rotation.StepCompleted,
		}},
		{rotation.Reversing, "reversing", []rotation.Step{
			rotation.StepEnable, rotation.StepStore, rotation.StepVerify, rotation.StepPromote, rotation.StepGrace, rotation.StepGuard, rotation.StepSoak, rotation.StepDelete,
			rotation.StepAwaitRevocation, rotation.StepConfirm, rotation.StepRetire, rotation.StepRolledBack,
		}},
		{rotation.Discarding, "discarding", []rotation.Step{rotation.StepDiscard, rotation.StepRolledBack}},
	} {
		for _, s := range steps.steps {
			p := page(s, steps.commitment)
			if p.Context.Commitment.Backwards() {
				p.Outcome = "the test says so (operator)"
			}
			all["at "+string(s)+", "+steps.way] = p.Render()
		}
	}
	awaitKey, approval, grace := page(rotation.StepAwaitKey, rotation.Staged), page(rotation.StepApproval, rotation.BothKeys), page(rotation.StepGrace, rotation.BothKeys)
	revocation, completed := page(rotation.StepAwaitRevocation, rotation.BothKeys), page(rotation.StepCompleted, rotation.ForwardOnly)
	prepare := page(rotation.StepPrepare, rotation.Looking)
	for sentence, p := range map[string]details.Page{
		"nobody supplies a key":                     with(awaitKey, func(p *details.Page) { p.AtDeadline = details.RollsBack }),
		"nobody supplies a key in an emergency":     with(with(awaitKey, emergency), func(p *details.Page) { p.AtDeadline = details.RollsBack }),
		"no old key":                                with(awaitKey, func(p *details.Page) { p.Old = nil }),
		"the old key is refused":                    with(awaitKey, func(p *details.Page) { p.OldRefused = true }),
		"what leaked is gone before there is a key": with(with(awaitKey, emergency), func(p *details.Page) { p.Contained = true }),
		"many old keys": with(awaitKey, func(p *details.Page) {
			p.Old = []details.Key{{ID: "key_1"}, {ID: "key_2"}, {Fingerprint: "000000000003"}, {ID: "key_4"}, {ID: "key_5"}}
		}),
		"a key in the history": with(awaitKey, func(p *details.Page) {
			p.Leak = &details.Leak{Fingerprint: "0123456789ab", Purge: "temporal workflow delete --workflow-id rotate/gpt --run-id r"}
		}),
		"a note, a handover and deliveries": with(awaitKey, func(p *details.Page) {
			p.Note = "The supplied key cannot be used"
			p.Handover = &rotation.Decision{DecisionMessage: rotation.DecisionMessage{By: "ana", Why: "asked Kim"}, At: begin}
			p.Deliveries = []rotation.Delivery{{Channel: "team", At: begin}, {Channel: "oncall", At: begin, Problem: "it answers 503."}}
		}),
		"a long note is cut":                        with(awaitKey, func(p *details.Page) { p.Note = strings.Repeat("<b>[look](http://x)</b> ", 200) }),
		"names that are too long leave whole lines": with(awaitKey, func(p *details.Page) { p.Account = strings.Repeat("account ", 200) }),
		"a blocked step":                            with(prepare, blocked),
		"a blocked step that is overdue":            with(with(prepare, blocked), overdue),
		"a blocked step of which channels know": with(with(with(prepare, blocked), overdue), func(p *details.Page) {
			p.Notifies, p.Reminders = true, 3
		}),
		"a step that waits":                              with(page(rotation.StepVerify, rotation.Staged), func(p *details.Page) { p.Why = "openai refuses the new value; asking again." }),
		"an address in the reason":                       with(prepare, func(p *details.Page) { p.Why, p.Blocked = "look at https://evil.example and "+providerConsole, true }),
		"an approval that is overdue":                    with(with(approval, overdue), func(p *details.Page) { p.AtDeadline = details.Overdue }),
		"an approval without a way back at its deadline": with(approval, func(p *details.Page) { p.AtDeadline = details.TriesRollBack }),
		"an approval under four eyes":                    with(approval, func(p *details.Page) { p.FourEyes = true }),
		"an approval that one of two has signed":         with(approval, func(p *details.Page) { p.FourEyes, p.Signed = true, []string{"alice"} }),
		"a question that grace does not change":          with(approval, func(p *details.Page) { p.Context.Extendable = false }),
		"a grace period under four eyes":                 with(grace, func(p *details.Page) { p.FourEyes = true }),
		"a grace period at its cap":                      with(grace, func(p *details.Page) { p.Context.GraceUntil = p.Context.GraceCap }),
		"a revocation in an emergency":                   with(revocation, emergency),
		"a revocation that is overdue":                   with(revocation, overdue),
		"completed, with an outcome":                     with(completed, func(p *details.Page) { p.Outcome = "Not due: it is young" }),
		"completed, keys revoked":                        with(completed, func(p *details.Page) { p.Revoked = []string{"0a1b2c3d4e5f (sk-...AbCd)", "key_2"} }),
		"completed, many keys revoked":                   with(completed, func(p *details.Page) { p.Revoked = []string{"a", "b", "c", "d"} }),
		"completed, with follow-ups": with(completed, func(p *details.Page) {
			p.FollowUps = []string{"Delete the key: " + providerConsole, "Look", "c", "d", "e", "f", "g"}
		}),
		"completed, after a leak and a note": with(completed, func(p *details.Page) {
			p.Leak, p.Handover = &details.Leak{Fingerprint: "0123456789ab"}, &rotation.Decision{}
			p.Deliveries = []rotation.Delivery{{Channel: "team", At: begin}}
		}),
	} {
		all[sentence] = p.Render()
	}
	rows := func(n int, why string) (rows []details.EmergencyKey) {
		for i := range n {
			name := "key-" + string(rune('a'+i))
			rows = append(rows, details.EmergencyKey{Key: name, Workflow: "rotate/" + name, Phase: rotation.AwaitingKey, Why: why})
		}
		return rows
	}
	running := details.Emergency{ID: "e1", By: "night shift", Why: "a laptop was stolen", Counts: "2 of 30 done."}
	full := running
	full.Leak, full.Waiting, full.Unreadable, full.Failed, full.NotRaised = "A KEY IS IN THIS HISTORY", rows(20, ""), rows(2, "it is not JSON"), rows(2, strings.Repeat("long ", 40)), rows(3, "")
	ended := running
	ended.Ended, ended.Failed = true, rows(1, "The new key is refused.")
	key := rotation.Key{Name: "gpt", Provider: "openai", Account: "proj_gpt", Stores: []rotation.Location{{Store: "gsm", Path: "gpt"}, {Store: "aws", Path: "gpt"}}, Policy: rotation.Policy{Grace: rotation.Duration(48 * time.Hour)}}
	leaked := rotation.DecisionMessage{By: "night shift", Why: "it was in a ticket", Leaked: []string{"0123456789ab"}, RevokeFirst: true}
	for sentence, p := range map[string]interface{ Render() string }{
		"a dispatcher that checks":                      details.Dispatch{Key: "gpt", Workflow: "rotate/gpt"},
		"a dispatcher that is done, with a leak":        details.Dispatch{Key: "gpt", Workflow: "rotate/gpt", Why: "Rotation started: it is due", Leak: "A KEY IS IN THIS HISTORY."},
		"a trigger that starts rotations":               details.Trigger{},
		"a trigger that searches":                       details.Trigger{Searches: true, Patience: 7 * 24 * time.Hour},
		"a trigger that is done":                        details.Trigger{Searches: true, Ended: true, Why: "gpt: rotation started"},
		"an emergency that needs nobody":                running,
		"an emergency with too many keys to name":       full,
		"an emergency that has ended":                   ended,
		"notifications of an end":                       details.End{Deliveries: []rotation.Delivery{{Channel: "team", At: begin}, {Channel: "oncall", Problem: "it answers 503"}}},
		"the start of a rotation":                       details.Start{Key: key, Reason: rotation.Manual, By: "ana", Why: "it is old"},
		"the start of a rotation without a reason":      details.Start{Key: key, Reason: rotation.Scheduled},
		"the start of a trigger":                        details.TriggerStart{Source: "github", Leaked: true, Fingerprints: []string{"0123456789ab"}, Why: "push"},
		"the start of a trigger that names keys":        details.TriggerStart{Source: "ci", Keys: []string{"gpt", "ci"}},
		"the start of an emergency":                     details.EmergencyStart{Keys: 3, Message: rotation.DecisionMessage{By: "ana", Why: "w"}},
		"the start of an emergency with a grace period": details.EmergencyStart{Keys: 3, Message: rotation.DecisionMessage{By: "ana", Why: "w", For: rotation.Duration(time.Hour)}},
		"the start of an emergency that revokes first":  details.EmergencyStart{Keys: 1, Message: leaked},
	} {
		all[sentence] = p.Render()
	}
	for sentence, p := range map[string]details.Page{
		"a notification that a key is needed":        with(awaitKey, func(p *details.Page) { p.AtDeadline = details.RollsBack }),
		"a notification that a decision is needed":   approval,
		"a notification that a revocation is needed": revocation,
		"a notification that a leaked key must go":   page(rotation.StepAwaitContainment, rotation.ForwardOnly),
		"a notification that a step is blocked":      with(prepare, blocked),
	} {
		what, command := p.RequiredAction()
		all[sentence] = what + "\n" + command + "\n" + p.Otherwise() + "\n"
	}
	return all
}

// file is where a golden page is.
func file(sentence string) string {
	return filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(sentence, ",", ""), " ", "-")+".md")
}

func TestPagesAreAsTheGoldenOnes(t *testing.T) {
	pages := golden()
	for sentence, got := range pages {
		if *updateGolden {
			if err := os.WriteFile(file(sentence), []byte(got), 0o600); err != nil {
				t.Error(err)
			}
			continue
		}
		want, err := os.ReadFile(file(sentence))
		if err != nil {
			t.Errorf("%v (go test ./workflows/details -update writes it)", err)
			continue
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, diff)
		}
	}
	files, err := filepath.Glob("testdata/*.md")
	if err != nil || len(files) != len(pages) {
		t.Errorf("%d golden files for %d pages: %v", len(files), len(pages), err)
	}
}

func TestEveryPageIsShortEnoughAndItsMarkupEnds(t *testing.T) {
	for sentence, text := range golden() {
		if len(text) > 1900 {
			t.Errorf("%s: %d bytes", sentence, len(text))
		}
		for line := range strings.Lines(text) {
			if strings.Count(line, "`")%2 != 0 || strings.Count(line, "**")%2 != 0 {
				t.Errorf("%s: markup that does not end: %s", sentence, line)
			}
		}
	}
}

// A page is made again at every replay, so it may depend on nothing but its value.
func TestAPageOfTheSameValueIsTheSame(t *testing.T) {
	first := golden()
	for range 3 {
		if diff := cmp.Diff(first, golden()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRenderingAPageDoesNotChangeItsValue(t *testing.T) {
	p := with(page(rotation.StepAwaitKey, rotation.Staged), blocked)
	p.Links = make([]string, 1, 4)
	p.Render()
	if !slices.Equal(p.Links[:4], make([]string, 4)) {
		t.Errorf("the links are now %q", p.Links[:4])
	}
}
