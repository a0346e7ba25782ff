package details

import (
	"fmt"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// RequiredAction says in a notification, in plain text, what a person has to do, and which command does it.
func (p Page) RequiredAction() (sentence, command string) {
	switch p.step().Phase() {
	case rotation.AwaitingKey:
		return fmt.Sprintf("Create a new key for %s (%s) and give it to rekey, never here.", p.Account, p.ProviderConsole), "rekey supply " + p.Key
	case rotation.AwaitingRevocation:
		return fmt.Sprintf("Revoke the key %s of %s (%s), then confirm it.", strings.ReplaceAll(p.describe(p.Outgoing), "`", ""), p.Account, p.ProviderConsole), "rekey key-revoked " + p.Key
	case rotation.AwaitingApproval:
		return "Decide: " + p.Question.Text, fmt.Sprintf("rekey status %s, then rekey approve %s", p.Key, p.Key)
	}
	return "The rotation is blocked: " + p.Why, "rekey status " + p.Key
}

// Otherwise says in a notification what happens if nobody acts.
func (p Page) Otherwise() string {
	switch {
	case p.AtDeadline == TriesRollBack:
		return "Then the roll-back is tried again."
	case p.AtDeadline == RollsBack && p.emergency():
		return "Then the rotation rolls back, and what leaked stays live."
	case p.AtDeadline == RollsBack:
		return "Then the rotation rolls back to the old key."
	case p.step() == rotation.StepAwaitContainment, p.waiting() && p.emergency():
		return "The leaked key stays live."
	case p.waiting():
		return "Both keys stay as they are."
	}
	return "rekey keeps trying."
}

// deliveries says who was notified, and who could not be.
func deliveries(all []rotation.Delivery) string {
	var parts []string
	for _, d := range all {
		if !d.At.IsZero() {
			parts = append(parts, d.Channel+" "+Moment(d.At))
		}
		if d.Problem != "" {
			parts = append(parts, d.Channel+" could not be notified: "+strings.TrimRight(d.Problem, "."))
		}
	}
	return strings.Join(parts, "; ")
}
