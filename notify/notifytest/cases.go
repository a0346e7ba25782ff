package notifytest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

func arrives(s *suite) {
	n := notification()
	s.send(n)
	got := s.Messages()
	if len(got) != 1 || got[0].Again || s.HasID && got[0].ID != n.ID {
		s.Fatalf("the receiver took %+v", got)
	}
	for _, part := range []string{n.Key, n.Message, n.Otherwise, n.Command, n.Note, n.Link} {
		if !strings.Contains(got[0].Text, part) {
			s.Errorf("the text lacks %q:\n%s", part, got[0].Text)
		}
	}
}

func sentAgain(s *suite) {
	n := notification()
	s.send(n)
	s.send(n)
	s.isRepetition()
}

// isRepetition checks that the receiver has two messages, of which the second one repeats the first.
func (s *suite) isRepetition() {
	s.Helper()
	got := s.Messages()
	if len(got) != 2 || got[0].Text != got[1].Text || got[0].ID != got[1].ID || s.HasID && (got[0].Again || !got[1].Again) {
		s.Errorf("the same notification twice: %+v", got)
	}
}

func atOnce(s *suite) {
	const many = 16
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			n := notification()
			n.ID, n.Message = "at-once-"+strconv.Itoa(i), "Number "+strconv.Itoa(i)+"."
			if err := s.Channel.Notify(s.Context(), n); err != nil {
				s.Errorf("number %d: %v", i, err)
			}
		})
	}
	all.Wait()
	texts := map[string]bool{}
	for _, m := range s.Messages() {
		texts[m.Text] = true
	}
	if len(texts) != many {
		s.Errorf("%d of %d arrived", len(texts), many)
	}
}

func answers(s *suite) {
	for _, c := range []struct {
		code  int
		wait  time.Duration
		class fault.Class
	}{
		{http.StatusBadRequest, 0, fault.Rejected},
		{http.StatusMethodNotAllowed, 0, fault.Rejected},
		{http.StatusConflict, 0, fault.Rejected},
		{http.StatusRequestEntityTooLarge, 0, fault.Rejected},
		{http.StatusUnprocessableEntity, 0, fault.Rejected},
		{http.StatusUnauthorized, 0, fault.AccessDenied},
		{http.StatusForbidden, 0, fault.AccessDenied},
		{http.StatusNotFound, 0, fault.NotFound},
		{http.StatusGone, 0, fault.NotFound},
		{http.StatusTooManyRequests, 0, fault.Throttled},
		{http.StatusTooManyRequests, 7 * time.Second, fault.Throttled},
		{http.StatusRequestTimeout, 0, fault.Unavailable},
		{http.StatusInternalServerError, 0, fault.Unavailable},
		{http.StatusBadGateway, 0, fault.Unavailable},
		{http.StatusServiceUnavailable, 0, fault.Unavailable},
		{http.StatusServiceUnavailable, 9 * time.Second, fault.Unavailable},
		{http.StatusGatewayTimeout, 0, fault.Unavailable},
	} {
		s.during(simcloud.Fault{Kind: simcloud.Refuse, Code: c.code, RetryAfter: c.wait}, func() {
			before := s.Cloud.Calls(s.Service, "post")
			f := s.fails(s.Channel.Notify(s.Context(), notification()), c.class)
			if f.RetryAfter != c.wait {
				s.Errorf("%d: it waits %s, want %s", c.code, f.RetryAfter, c.wait)
			}
			if sent := s.Cloud.Calls(s.Service, "post") - before; sent != 1 {
				s.Errorf("%d: %d requests were sent, want 1: whoever calls repeats it", c.code, sent)
			}
		})
	}
	if got := s.Messages(); len(got) > 0 {
		s.Errorf("the receiver took %+v", got)
	}
}

func broken(s *suite) {
	for _, kind := range []simcloud.FaultKind{simcloud.DropBefore, simcloud.LoseReply} {
		s.during(simcloud.Fault{Kind: kind}, func() {
			if f := s.fails(s.Channel.Notify(s.Context(), notification()), fault.Unavailable); !f.Unsettled {
				s.Errorf("%v does not say that it may have arrived", f)
			}
		})
	}
}

func lostAnswer(s *suite) {
	s.during(simcloud.Fault{Kind: simcloud.LoseReply, Times: 1}, func() {
		_ = s.fails(s.Channel.Notify(s.Context(), notification()), fault.Unavailable)
		s.send(notification())
	})
	s.isRepetition()
}

// cutAnswer: the receiver has taken it, which its status may say already.
func cutAnswer(s *suite) {
	s.during(simcloud.Fault{Kind: simcloud.CutReply}, func() {
		if err := s.Channel.Notify(s.Context(), notification()); err != nil {
			_ = s.fails(err, fault.Unavailable)
		}
	})
}

func nobodyListens(s *suite) {
	s.Stop()
	if f := s.fails(s.Channel.Notify(s.Context(), notification()), fault.Unavailable); f.Unsettled {
		s.Errorf("%v says that it may have arrived", f)
	}
}

func redirects(s *suite) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		followed.Add(1)
		_, _ = w.Write([]byte("ok"))
	}))
	defer elsewhere.Close()
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		sends := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/elsewhere-with-a-token", code))
		err := s.NewAt(s.T, sends.URL+"/services/redirected").Notify(s.Context(), notification())
		sends.Close()
		_ = s.fails(err, fault.Rejected)
		s.keepsSecrets(err, "elsewhere", "redirected", sends.URL)
	}
	if n := followed.Load(); n > 0 {
		s.Errorf("%d redirects were followed", n)
	}
}

func neverAnswers(s *suite) {
	release := make(chan struct{})
	defer close(release)
	s.during(simcloud.Fault{Kind: simcloud.Hold, Release: release}, func() {
		if f := s.fails(s.inTime(s.Context(), s.Channel, s.Within), fault.Unavailable); !f.Unsettled {
			s.Errorf("%v does not say that it may have arrived", f)
		}
	})
}

func endlessAnswer(s *suite) {
	talks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond)
		}
	}))
	defer talks.Close()
	_ = s.fails(s.inTime(s.Context(), s.NewAt(s.T, talks.URL+"/services/endless"), s.Within), fault.Unavailable)
}

func callerGivesUp(s *suite) {
	release, reached := make(chan struct{}), make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	s.during(simcloud.Fault{Kind: simcloud.Hold, Release: release, Reached: reached, Times: 1}, func() {
		go func() {
			<-reached
			cancel()
		}()
		_ = s.fails(s.inTime(ctx, s.Channel, 0), fault.Unavailable)
	})
}

func noTime(s *suite) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_ = s.fails(s.inTime(ctx, s.Channel, 0), fault.Unavailable)
	if calls := s.Cloud.Calls(s.Service, "post"); calls > 0 {
		s.Errorf("%d requests were sent", calls)
	}
}

func echo(s *suite) {
	const token = "T0KEN-of-the-address"
	for _, code := range []int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests, http.StatusInternalServerError} {
		echoes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			said := fmt.Sprintf("the request to %s with the headers %v", r.URL, r.Header)
			w.Header().Set("X-Error", strings.ReplaceAll(said, "\n", " "))
			w.WriteHeader(code)
			_, _ = w.Write([]byte(said)) //nolint:gosec // it plays a careless receiver
		}))
		err := s.NewAt(s.T, echoes.URL+"/services/"+token).Notify(s.Context(), notification())
		echoes.Close()
		if err == nil && code != http.StatusOK {
			s.Errorf("%d is taken for a success", code)
		}
		s.keepsSecrets(err, token, echoes.URL, "the request to", "User-Agent")
	}
}

func longWait(s *suite) {
	for text, longest := range map[string]time.Duration{
		"31536000": time.Hour, "-5": 0, "soon": 0, "": 0, "99999999999999999999": time.Hour,
		time.Now().Add(1000 * time.Hour).UTC().Format(http.TimeFormat):  time.Hour,
		time.Now().Add(-1000 * time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", text)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		f := s.fails(s.NewAt(s.T, busy.URL+"/services/busy-receiver").Notify(s.Context(), notification()), fault.Throttled)
		busy.Close()
		if f.RetryAfter < 0 || f.RetryAfter > longest {
			s.Errorf("Retry-After %q: it waits %s, want at most %s", text, f.RetryAfter, longest)
		}
	}
}

func recovers(s *suite) {
	s.during(simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusServiceUnavailable, Times: 1}, func() {
		_ = s.fails(s.Channel.Notify(s.Context(), notification()), fault.Unavailable)
		s.send(notification())
	})
	if got := s.Messages(); len(got) != 1 || got[0].Again {
		s.Errorf("the receiver took %+v", got)
	}
}

func shapes(s *suite) {
	long := notification()
	long.Message, long.Note, long.Otherwise = strings.Repeat("ü", 1000), strings.Repeat("n", 1000), strings.Repeat("o", 1000)
	for what, n := range map[string]rotation.Notification{
		"an end":  {ID: "end-1", Event: rotation.EventCompleted, At: time.Now(), Key: "ci", Provider: "google", Rotation: "aipm4sev", Reason: rotation.Manual, Phase: rotation.Completed, Message: "Done."},
		"a test":  {ID: "test-1", Event: rotation.EventTest, At: time.Now(), Key: "(test)", Provider: "-", Rotation: "-", Reason: rotation.Manual, Phase: rotation.Completed, Message: "A test."},
		"a novel": long,
	} {
		s.Run(what, func(t *testing.T) {
			if err := s.Channel.Notify(t.Context(), n.Clean()); err != nil {
				t.Error(err)
			}
		})
	}
}

// markup: the simulated receivers refuse control characters that are not escaped.
func markup(s *suite) {
	n := notification()
	n.Message = "Make a new key <now> & hand it to <!channel>, <@U1> or <https://evil.example|here>."
	s.send(n.Clean())
	if got := s.Messages(); len(got) != 1 || !strings.Contains(got[0].Text, "evil.example") {
		s.Errorf("the receiver took %+v", got)
	}
}
