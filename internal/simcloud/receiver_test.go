package simcloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTheReceiverIsStrict(t *testing.T) {
	const secret = "0123456789abcdef"
	good := map[string]any{
		"id": "a-1", "event": "needed", "at": "2026-11-23T00:00:00Z", "key": "k", "provider": "openai", "rotation": "r", "reason": "manual",
		"phase": "awaiting-key", "message": "n", "text": "t",
	}
	with := func(name string, value any) map[string]any {
		m := map[string]any{name: value}
		for k, v := range good {
			if _, set := m[k]; !set {
				m[k] = v
			}
		}
		return m
	}
	for sentence, tc := range map[string]struct {
		body any
		sign string // empty: as it should be
		age  time.Duration
		want int
	}{
		"takes a notice":                         {body: good, want: http.StatusAccepted},
		"takes no other signature":               {body: good, sign: "sha256=00", want: http.StatusUnauthorized},
		"takes no old notice":                    {body: good, age: 6 * time.Minute, want: http.StatusBadRequest},
		"takes no notice without its key":        {body: with("key", nil), want: http.StatusBadRequest},
		"takes no field that the docs lack":      {body: with("secret", "x"), want: http.StatusBadRequest},
		"takes no id but that of the header":     {body: with("id", "a-2"), want: http.StatusBadRequest},
		"takes no text that is longer than 1 KB": {body: with("text", strings.Repeat("x", 1024)), want: http.StatusBadRequest},
		"takes no list":                          {body: []int{1}, want: http.StatusBadRequest},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, err := New(nil).StartReceiver(secret)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Stop()
			body, _ := json.Marshal(tc.body)
			stamp := strconv.FormatInt(time.Now().Add(-tc.age).Unix(), 10)
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(stamp + ".a-1." + string(body)))
			if tc.sign == "" {
				tc.sign = "sha256=" + hex.EncodeToString(mac.Sum(nil))
			}
			q, _ := http.NewRequest(http.MethodPost, r.WebhookURL, strings.NewReader(string(body)))
			q.Header = http.Header{"X-Rekey-Timestamp": {stamp}, "X-Rekey-Delivery": {"a-1"}, "X-Rekey-Signature": {tc.sign}}
			answer, err := http.DefaultClient.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != tc.want || (len(r.Messages()) == 1) != (tc.want == http.StatusAccepted) {
				t.Errorf("it answers %d and has taken %d", answer.StatusCode, len(r.Messages()))
			}
		})
	}
	for sentence, body := range map[string]string{
		"no JSON": "hello", "no text": `{}`, "a field that Slack does not know": `{"text":"x","colour":"red"}`, "a mention": `{"text":"<!channel> hi"}`, "an open ampersand": `{"text":"you & me"}`,
	} {
		t.Run("Slack takes not: "+sentence, func(t *testing.T) {
			r, err := New(nil).StartReceiver(secret)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Stop()
			answer, err := http.Post(r.SlackURL, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusBadRequest || len(r.Messages()) != 0 {
				t.Errorf("it answers %d", answer.StatusCode)
			}
		})
	}
}
