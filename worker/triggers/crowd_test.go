package triggers_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a connection and says something on it.
func (r *fixture) dial(text string) net.Conn {
	r.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		r.Fatal(err)
	}
	return c
}

// closed reports whether the other side has ended a connection, without waiting for it.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// Whoever opens connections and says nothing, or half of something, keeps nobody else out and takes no more descriptors
// than the listener allows.
func TestADeliveryIsServedWhileAThousandConnectionsAreIdle(t *testing.T) {
	for sentence, said := range map[string]string{
		"that say nothing":            "",
		"in the middle of a header":   "POST /triggers/ci HTTP/1.1\r\nHost: rekey.example.com\r\nX-Rekey-Sig",
		"in the middle of a body":     "POST /triggers/ci HTTP/1.1\r\nHost: rekey.example.com\r\nX-Rekey-Signature: sha256=00\r\nContent-Length: 1000\r\n\r\n{",
		"that were refused":           "GET / HTTP/1.1\r\nHost: rekey.example.com\r\n\r\n",
		"that were refused elsewhere": "POST /triggers/ci HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			var crowd []net.Conn
			for range 1000 {
				crowd = append(crowd, r.dial(said))
				if len(crowd)%100 == 0 {
					r.pass(time.Second) // a flood is another test
				}
			}
			status, answer := 0, map[string]string{}
			for try := 0; try < 10 && (status == 0 || status == http.StatusTooManyRequests); try++ {
				r.pass(3 * time.Second)
				status, answer = r.send(r.hook("d1", goodOrder))
			}
			if status != http.StatusAccepted || len(r.started) != 1 {
				t.Fatalf("the answer is %d %v", status, answer)
			}
			open := 0
			for _, c := range crowd {
				if !closed(t, c) {
					open++
				}
			}
			// 256 by the listener's limit; a bit more, because an end may still be on its way.
			if open > 300 {
				t.Errorf("%d connections are still open", open)
			}
		})
	}
}

func TestAConnectionEndsWithARefusalOfWhoHasProvenNothing(t *testing.T) {
	r := newFixture(t)
	ask := func(c net.Conn, q call) *http.Response {
		t.Helper()
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", q.method, q.path, q.host, len(q.body))
		for name := range q.header {
			head += name + ": " + q.header.Get(name) + "\r\n"
		}
		if _, err := io.WriteString(c, head+"\r\n"+q.body); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer
	}
	unsigned := r.hook("d1", goodOrder)
	unsigned.header.Del("X-Rekey-Signature")
	forged := r.hook("d1", goodOrder)
	forged.header.Set("X-Rekey-Signature", sign("another", goodOrder))
	for what, q := range map[string]call{"unsigned": unsigned, "forged": forged, "a path that there is not": {method: "POST", path: "/", host: "rekey.example.com"}} {
		if a := ask(r.dial(""), q); !a.Close {
			t.Errorf("%s: the connection stays, after %s", what, a.Status)
		}
	}
	// Who is known may send the next one on the same connection, also after a mistake.
	c := r.dial("")
	if a := ask(c, r.hook("d1", `{"key":"openai-old"}`)); a.Close || a.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("closed %v, after %s", a.Close, a.Status)
	}
	if a := ask(c, r.hook("d2", goodOrder)); a.StatusCode != http.StatusAccepted {
		t.Errorf("the second answer is %s", a.Status)
	}
}

func TestAFloodIsToldOnceAMinuteAndAnsweredOnce(t *testing.T) {
	r := newFixture(t)
	logged := func() int {
		return strings.Count(r.logs.String(), `"reason":"too many requests"`)
	}
	flood := func() (lost int) {
		for range 220 {
			c := post("ci", goodOrder)
			c.path = "/"
			if status, answer := r.send(c); status == http.StatusTooManyRequests {
				if lost++; answer["status"] != "refused" {
					t.Errorf("the answer is %v", answer)
				}
			}
		}
		return lost
	}
	if lost := flood(); lost != 20 || logged() != 1 {
		t.Errorf("%d lost, logged %d times", lost, logged())
	}
	r.pass(30 * time.Second)
	if lost := flood(); lost != 20 || logged() != 1 {
		t.Errorf("half a minute later: %d lost, logged %d times", lost, logged())
	}
	r.pass(30 * time.Second)
	if lost := flood(); lost != 20 || logged() != 2 || !strings.Contains(r.logs.String(), `"lost":40`) {
		t.Errorf("a minute later: %d lost, logged %d times:\n%s", lost, logged(), r.logs.String())
	}
}
