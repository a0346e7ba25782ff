// Package notifytest is the conformance suite of the channels: what rekey relies on, asked of a channel through the
// simulator of its receiver.
//
//	func TestConformance(t *testing.T) {
//		notifytest.Run(t, func(t *testing.T) notifytest.Harness { … })
//	}
package notifytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// Harness is a channel that talks to its own simulated receiver. Every test of the suite gets a new one.
type Harness struct {
	// Channel leads to the receiver. It is made as rekey.yaml makes it.
	Channel notify.Channel
	// Within is the longest that one Notify of a channel of this harness may take.
	Within time.Duration
	// Cloud and Service are the simulator of the receiver, and its name in faults and journal.
	Cloud   *simcloud.Cloud
	Service string
	// Messages are what the receiver took, oldest first.
	Messages func() []simcloud.Message
	// HasID: what is sent carries the notification's ID, so that a receiver can drop a repetition.
	HasID bool
	// Stop ends the receiver: nobody listens at its address any more.
	Stop func()
	// NewAt makes a channel of the same kind whose address is url, which is on loopback.
	NewAt func(t *testing.T, url string) notify.Channel
	// Secrets are what no error may show: the address of Channel or the parts of it that are secret, and what it signs with.
	Secrets []string
}

// suite is one test of the suite.
type suite struct {
	*testing.T
	Harness
}

// Run runs the suite. start makes a new receiver and a channel to it, and ends them with t.Cleanup.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	for sentence, test := range map[string]func(*suite){
		"a notification arrives with its text":                                   arrives,
		"sent again it has the same id and the same text":                        sentAgain,
		"notifications that are sent at once all arrive":                         atOnce,
		"what the receiver answers becomes a fault of the right class":           answers,
		"a connection that breaks is an outage whose outcome is open":            broken,
		"an answer that was lost may be repeated":                                lostAnswer,
		"an answer that is cut short is not taken for another receiver":          cutAnswer,
		"where nobody listens it is an outage":                                   nobodyListens,
		"a redirect is not followed":                                             redirects,
		"a receiver that never answers holds nobody up for longer than is said":  neverAnswers,
		"a receiver that never stops answering holds nobody up either":           endlessAnswer,
		"a caller that gives up gets an outage at once":                          callerGivesUp,
		"a caller that has no time left gets an outage, and nothing is sent":     noTime,
		"what a receiver says about the request does not come into any error":    echo,
		"a wait that a receiver asks for is bounded, and never below nothing":    longWait,
		"a receiver that answers again after an outage gets the notification":    recovers,
		"a notification with everything in it is taken, and so is a short one":   shapes,
		"text that the receiver could take for markup or a command is only text": markup,
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			test(&suite{T: t, Harness: start(t)})
		})
	}
}

// notification is one with every field.
func notification() rotation.Notification {
	return rotation.Notification{
		ID: "aipm4sev-awaiting-key-1", Event: rotation.EventNeeded, At: time.Now(), Key: "openai-prod", Provider: "openai", Tier: rotation.Production,
		Rotation: "aipm4sev", Reason: rotation.Scheduled, Phase: rotation.AwaitingKey, Message: "Make a new key and supply it.",
		Deadline: time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC), Otherwise: "Then the rotation rolls back.", Command: "rekey supply openai-prod",
		Notified: []string{"team"}, Note: "ana@example.com: asked Kim",
		Link: "https://temporal.example.com/namespaces/default/workflows/rotate%2Fopenai-prod",
	}.Clean()
}

func (s *suite) during(f simcloud.Fault, do func()) {
	f.Service = s.Service
	remove := s.Cloud.Inject(f)
	defer remove()
	do()
}

// send sends a notification that must be taken.
func (s *suite) send(n rotation.Notification) {
	s.Helper()
	if err := s.Channel.Notify(s.Context(), n); err != nil {
		s.Fatalf("the notification was not sent: %v", err)
	}
}

// fails checks the class of an error, and that it shows nothing secret.
func (s *suite) fails(err error, class fault.Class) *fault.Error {
	s.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		s.Fatalf("got %v (%T), want a fault of class %s", err, err, class)
	}
	if f.Class != class || f.Doing == "" {
		s.Errorf("got %v (doing %q), want class %s", err, f.Doing, class)
	}
	s.keepsSecrets(err)
	return f
}

// keepsSecrets looks for what no error may show, also in the errors that it wraps.
func (s *suite) keepsSecrets(err error, more ...string) {
	s.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, secret := range append(more, s.Secrets...) {
			text := e.Error()
			if f, ok := e.(*fault.Error); ok { //nolint:errorlint // each error of the chain is looked at by itself
				text += fmt.Sprintf(" %+v", *f)
			}
			if strings.Contains(text, secret) {
				s.Errorf("an error shows %s: %s", secret, text)
			}
		}
	}
}

// inTime runs a Notify and checks how long it takes.
func (s *suite) inTime(ctx context.Context, c notify.Channel, within time.Duration) error {
	s.Helper()
	const slack = 2 * time.Second // for a machine that is busy
	// A channel that would wait for ever fails the test, and does not hold it up.
	ctx, cancel := context.WithTimeout(ctx, within+2*slack)
	defer cancel()
	begin := time.Now()
	err := c.Notify(ctx, notification())
	if took := time.Since(begin); took > within+slack {
		s.Errorf("it took %s, want at most %s", took, within)
	}
	return err
}
