package webhook

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/internal/hmacsign"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// Body is what a webhook of your own gets: the notification, and its text as a person reads it.
type Body struct {
	rotation.Notification
	Text string `json:"text"`
}

func (c *Channel) body(n rotation.Notification) ([]byte, error) {
	if c.options.Type == Slack {
		return json.Marshal(map[string]string{"text": mrkdwn.Replace(n.Text())})
	}
	return json.Marshal(Body{Notification: n, Text: n.Text()})
}

// mrkdwn takes the meaning out of Slack's control characters, so that no text mentions a channel or hides a link
// (Slack's docs, formatting text: these three and no others).
var mrkdwn = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func sign(h http.Header, shared secret.Value, now time.Time, id string, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	h.Set(hmacsign.Timestamp, timestamp)
	h.Set(hmacsign.Delivery, id)
	h.Set(hmacsign.Signature, hmacsign.Of(shared, hmacsign.Head(timestamp, id), body))
}
