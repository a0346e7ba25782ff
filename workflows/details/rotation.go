package details

import (
	"fmt"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// Start is what a rotation is started with. The Temporal UI shows it for as long as the rotation is kept.
type Start struct {
	Key     rotation.Key
	Reason  rotation.Reason
	By, Why string
}

// Summary is the line above the details. The way to them is shown where a person looks first: in the summaries of timers.
func (s Start) Summary() string {
	return Escape(fmt.Sprintf("%s rotation of %s", s.Reason, s.Key.Name))
}

// Render writes what does not change while the rotation goes on.
func (s Start) Render() string {
	k := s.Key
	var places []string
	for _, l := range k.Stores {
		places = append(places, code(l.String()))
	}
	text := fmt.Sprintf("Replaces the key %s of %s at %s, which applications read in %s.\n\nReason: %s.", bold(k.Name), code(k.Account),
		Escape(k.Provider), strings.Join(places, ", "), Escape(string(s.Reason)))
	if s.By != "" {
		text += " Requested by " + Escape(clip(s.By, 100)) + "."
	}
	if s.Why != "" {
		text += " Why: " + Sentence(prose(clip(s.Why, 400)))
	}
	return text + fmt.Sprintf("\n\nGrace period %s. *Current Details* says what happens now and what to do. *More Actions*, *Send an Update* lists the messages that it takes."+
		"\n\n*Request Cancellation* means: roll back, between steps, as long as there is a way back. Do not *Terminate*: nothing is cleaned up then,"+
		" and both keys stay live until the key's next rotation. Never put a key into a message.", k.Policy.Grace)
}
