package rotation

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MinuteLayout is how a moment is written for people, in UTC.
const MinuteLayout = "2006-01-02 15:04 MST"

// Event says why people are notified.
type Event string

// The events.
const (
	// EventNeeded: a person has to do something.
	EventNeeded Event = "needed"
	// EventReminder: it is still to be done.
	EventReminder Event = "reminder"
	// EventEscalation: nobody has done it, and the policy escalates.
	EventEscalation Event = "escalation"
	// EventOverdue: the deadline has passed, and it is still to be done.
	EventOverdue Event = "overdue"
	// EventCompleted and EventRolledBack: the rotation has ended.
	EventCompleted  Event = "completed"
	EventRolledBack Event = "rolled-back"
	// EventTest: somebody tries the channel out.
	EventTest Event = "test"
)

// Notification is one message to one channel. It names keys and fingerprints, never a value.
type Notification struct {
	// ID is the same however often it is sent: a receiver can drop the second one. A-Z, a-z, 0-9 and hyphens.
	ID    string    `json:"id"`
	Event Event     `json:"event"`
	At    time.Time `json:"at"`

	Key      string `json:"key"`
	Provider string `json:"provider"`
	Tier     Tier   `json:"tier,omitempty"`
	Rotation string `json:"rotation"`
	Reason   Reason `json:"reason"`
	Phase    Phase  `json:"phase"`

	// Message says in a sentence or two what a person has to do, or how the rotation ended.
	Message string `json:"message"`
	// Deadline is until when, Then what happens otherwise; zero and empty if nothing waits.
	Deadline  time.Time `json:"deadline,omitzero"`
	Otherwise string    `json:"otherwise,omitempty"`
	// Command does on the command line what is needed.
	Command string `json:"command,omitempty"`
	// Note is what somebody left for whoever comes next.
	Note string `json:"note,omitempty"`
	// Notified are the other channels that know of it.
	Notified []string `json:"notified,omitempty"`
	// Link leads to the rotation in the Temporal UI. The worker sets it; what an input says does not count.
	Link string `json:"link,omitempty"`
}

// Delivery is what became of the notifications to one channel.
type Delivery struct {
	Channel string `json:"channel"`
	// At is when the channel took the last notification, Event what it was about; zero if it never took one.
	At    time.Time `json:"at,omitzero"`
	Event Event     `json:"event,omitempty"`
	// Problem says why the last notification could not be delivered.
	Problem string `json:"problem,omitempty"`
}

// The longest fields of a notification, in bytes, so that its text stays below maxNotification.
const (
	maxMessage, maxOtherwise, maxNote, maxLink = 320, 100, 160, 160
	maxNotification                            = 1000
)

// Clean makes a notification fit to be sent: one line for each field, none too long, and none that holds what looks like a
// key.
func (n Notification) Clean() Notification {
	n.Message, n.Otherwise, n.Note = clean(n.Message, maxMessage), clean(n.Otherwise, maxOtherwise), clean(n.Note, maxNote)
	n.Command = clean(n.Command, maxOtherwise)
	n.Event = Event(clean(string(n.Event), 40))
	if !OneLine(n.Link) || !utf8.ValidString(n.Link) {
		n.Link = "" // changed it would lead elsewhere
	}
	for _, name := range []*string{&n.ID, &n.Key, &n.Provider, &n.Rotation, (*string)(&n.Tier), (*string)(&n.Reason), (*string)(&n.Phase)} {
		*name = clean(*name, 80)
	}
	notified := n.Notified
	n.Notified = nil
	for _, t := range notified[:min(len(notified), 5)] {
		n.Notified = append(n.Notified, clean(t, 40))
	}
	return n
}

func clean(text string, longest int) string {
	if LooksLikeKey(text) {
		return "(left out: it looks like a key)"
	}
	text = strings.Map(func(r rune) rune {
		if unseen(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest-len("…")], "") + "…"
	}
	return text
}

// Text returns the notification as a person reads it, in less than 1 KB. Clean it first.
func (n Notification) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%s", n.heading(), n.Key, n.Provider)
	for _, word := range []string{string(n.Tier), string(n.Reason), string(n.Phase)} {
		if word != "" {
			b.WriteString(", " + word)
		}
	}
	fmt.Fprintf(&b, ")\n%s\n", n.Message)
	if !n.Deadline.IsZero() {
		word := "Until"
		if n.Event == EventOverdue {
			word = "It was due"
		}
		fmt.Fprintf(&b, "%s %s. %s\n", word, n.Deadline.UTC().Format(MinuteLayout), n.Otherwise)
	}
	for _, line := range []struct{ name, text string }{{"Do it", n.Command}, {"See", n.Link}, {"Note", n.Note}, {"Also notified", strings.Join(n.Notified, ", ")}} {
		if line.text != "" && (line.name != "See" || len(line.text) <= maxLink) {
			fmt.Fprintf(&b, "%s: %s\n", line.name, line.text)
		}
	}
	text := strings.TrimSpace(b.String())
	if len(text) > maxNotification {
		text = strings.ToValidUTF8(text[:maxNotification], "") + "…"
	}
	return text
}

func (n Notification) heading() string {
	switch n.Event {
	case EventNeeded:
		return "A person is needed"
	case EventReminder:
		return "Reminder, a person is needed"
	case EventEscalation:
		return "Nobody has answered, a person is needed"
	case EventOverdue:
		return "OVERDUE, a person is needed"
	case EventCompleted:
		return "Done"
	case EventRolledBack:
		return "Rolled back"
	case EventTest:
		return "A test"
	}
	return string(n.Event)
}
