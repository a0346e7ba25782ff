package browser

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func TestAPersonWhoKnowsOnlyTheTemporalUIFinishesARotationByHand(t *testing.T) {
	needsBrowser(t)
	p := shared.sit(t)
	shared.start(t, journeyKey, rotation.Manual)
	old := shared.listed(t, journeyKey, shared.old[journeyKey])

	// The rotation that waits is found, and says on its first page where to read on.
	p.goTo("workflows", url.Values{"query": {`ExecutionStatus = "Running" AND RekeyPhase = "awaiting-key" AND RekeyKey = "` + journeyKey + `"`}})
	p.reads("1 Workflow", workflows.ID(journeyKey))
	p.picture("list")
	p.click("link", workflows.ID(journeyKey))
	p.reads("waiting for a person: what to do is under User Metadata")
	p.picture("timeline")

	p.details("What to do now", "create a new key of "+scenario.OpenAIProject(journeyKey), "Keep the old one: "+old, "rekey supply "+journeyKey, "Never put a key into either",
		"More Actions, Send an Update: name key-supplied", "If nobody acts by", "the rotation rolls back to the old key")
	if address := p.link("openai console"); !strings.HasPrefix(address, "https://platform.openai.com/") {
		t.Errorf("the link to the console goes to %q", address)
	}
	p.picture("awaiting-key")
	_, fresh := shared.supply(t, journeyKey)
	p.send(sendUpdate, "key-supplied", p.code("Send an Update"))

	// The policy wants an approval.
	shared.waitFor(t, journeyKey, rotation.AwaitingApproval)
	p.again()
	p.details("awaiting-approval", "To revoke the old key", "To return to the old key instead")
	p.picture("awaiting-approval")
	p.send(sendUpdate, "approve", strings.ReplaceAll(p.code("To revoke the old key"), "…", "no dashboard shows the old key"))

	shared.waitFor(t, journeyKey, rotation.AwaitingRevocation)
	p.again()
	p.details("awaiting-revocation", "Keep the new key, which applications read: "+shared.listed(t, journeyKey, fresh), "Revoke the old key: "+old, "name key-revoked", "Both keys stay as they are")
	p.picture("awaiting-revocation")
	data := p.code("Send an Update")
	shared.revokeOld(t, journeyKey)
	p.send(sendSignal, "key-revoked", data)

	p.reads("COMPLETED")
	p.again()
	p.details("Done: applications read the new key")
	p.picture("completed")
	p.click("link", "Timeline")
	p.reads("Result", `"phase": "completed"`)
	p.picture("timeline-completed")

	res, closed, err := client.New(shared.Client).Result(t.Context(), journeyKey)
	if err != nil || !closed || res.Phase != rotation.Completed {
		t.Errorf("the rotation ended as %+v, %v, %v", res, closed, err)
	}
	var kinds []rotation.DecisionKind
	for _, d := range res.Decisions {
		kinds = append(kinds, d.Kind)
	}
	if want := []rotation.DecisionKind{rotation.KeySupplied, rotation.Approve, rotation.KeyRevoked}; !slices.Equal(kinds, want) {
		t.Errorf("decisions %v, want %v", kinds, want)
	}
}

func TestAWrongAnswerIsToldWhatIsWrongAndWhatIsWanted(t *testing.T) {
	needsBrowser(t)
	p := shared.sit(t)
	shared.start(t, wrongKey, rotation.Manual)
	p.goTo("workflows/"+url.PathEscape(workflows.ID(wrongKey)), nil)
	p.details("What to do now")

	// A refused Update is answered in its dialog, and leaves nothing in the history.
	before := shared.events(t, wrongKey)
	p.fill(sendUpdate, "key-revoked", `{"by": "night shift"}`)
	p.submit("key-revoked is for the phase awaiting-revocation; this rotation is in awaiting-key")
	p.picture("update-refused")
	p.click("button", "Cancel")
	p.fill(sendUpdate, "roll-back", `{"by": "night shift"}`)
	p.submit("roll-back needs a reason")
	p.click("button", "Cancel")
	if after := shared.events(t, wrongKey); !slices.Equal(after, before) {
		t.Errorf("two refused updates left events: %v", after[min(len(before), len(after)):])
	}

	// A Signal has no answer but the details.
	for _, wrong := range []struct{ says, name, data, want string }{
		{"too early", "key-revoked", `{"by": "night shift"}`, "key-revoked is for the phase awaiting-revocation; this rotation is in awaiting-key"},
		// Straight quotes: what is to be copied must stay JSON.
		{"nonsense", "key-supplied", `[1, 2, 3]`, `it is a list. What it takes: In awaiting-key: says that the new key is in the first store, as a version that no application reads; rekey checks it. Never put a key here! Input: {"by": "you@example.com", "version": "7"}`},
		{"a version that is not there", "key-supplied", `{"by": "night shift", "version": "77"}`, "has no readable version 77"},
	} {
		p.send(sendSignal, wrong.name, wrong.data)
		p.again()
		p.details(wrong.want, "What to do now")
		p.picture("signal-" + strings.ReplaceAll(wrong.says, " ", "-"))
	}

	// After all that the right answer is taken.
	p.send(sendUpdate, "roll-back", `{"by": "night shift", "why": "nobody can make a key today"}`)
	p.reads("COMPLETED")
	p.again()
	p.details("Rolled back; applications read the old key", "nobody can make a key today (night shift)")
	p.picture("rolled-back")
}
