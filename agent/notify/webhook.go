package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/template"
)

// hook sends JSON to a URL. It takes Alertmanager's webhook configuration and
// sends Alertmanager's message (version 4), with an idempotency key in the header
// Idempotency-Key and in the body: Alertmanager's own sender has none.
type hook struct {
	conf   *webhook.WebhookConfig
	tmpl   *template.Template
	log    *slog.Logger
	client *http.Client
}

// hookMessage is the body. Each alert's annotations hold value, unit, threshold,
// condition, object, since, advice; the labels hold the rule (alertname),
// severity and instance.
type hookMessage struct {
	*template.Data
	Version         string `json:"version"`
	GroupKey        string `json:"groupKey"`
	TruncatedAlerts uint64 `json:"truncatedAlerts"`
	IdempotencyKey  string `json:"idempotencyKey"`
}

func newWebhook(c *webhook.WebhookConfig, tmpl *template.Template, log *slog.Logger) (*hook, error) {
	client, err := amnotify.NewClientWithTracing(*c.HTTPConfig, "webhook")
	if err != nil {
		return nil, fmt.Errorf("cannot make a webhook client: %w", err)
	}
	return &hook{conf: c, tmpl: tmpl, log: log, client: client}, nil
}

// Notify sends one message; true = trying again may help.
func (h *hook) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	key := keyOf(ctx)
	groupKey, err := amnotify.ExtractGroupKey(ctx)
	if err != nil {
		return false, err
	}
	msg := &hookMessage{Version: "4", GroupKey: groupKey.String(), IdempotencyKey: key}
	if limit := h.conf.MaxAlerts; limit > 0 && uint64(len(alerts)) > limit {
		msg.TruncatedAlerts = uint64(len(alerts)) - limit
		alerts = alerts[:limit]
	}
	msg.Data = amnotify.GetTemplateData(ctx, h.tmpl, alerts, h.log)
	body, err := h.body(msg)
	if err != nil {
		return false, err
	}
	url, err := h.url(msg.Data)
	if err != nil {
		return false, err
	}
	if h.conf.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.conf.Timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, amnotify.RedactURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "belfry")
	req.Header.Set("Idempotency-Key", key)
	resp, err := h.client.Do(req)
	if err != nil {
		return true, amnotify.RedactURL(err)
	}
	defer resp.Body.Close()
	return judgeStatus(resp)
}

func (h *hook) body(msg *hookMessage) ([]byte, error) {
	if h.conf.Payload == nil {
		b, err := json.Marshal(msg)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the message: %w", err)
		}
		return b, nil
	}
	rendered, err := template.DeepCopyWithTemplate(h.conf.Payload, func(text string) (string, error) {
		return h.tmpl.ExecuteTextString(text, msg.Data)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot render the payload: %w", err)
	}
	b, err := json.Marshal(rendered)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the payload: %w", err)
	}
	return b, nil
}

func (h *hook) url(data *template.Data) (string, error) {
	text := string(h.conf.URL)
	if text == "" {
		b, err := os.ReadFile(h.conf.URLFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the webhook's URL: %w", err)
		}
		text = strings.TrimSpace(string(b))
	}
	url, err := h.tmpl.ExecuteTextString(text, data)
	if err != nil {
		return "", fmt.Errorf("cannot render the webhook's URL: %w", err)
	}
	if url == "" {
		return "", errors.New("the webhook's URL is empty")
	}
	return url, nil
}

// judgeStatus reads an HTTP answer: 2xx is delivered. Server errors, time-outs
// and "too many requests" may pass; so may 401, 403 and 404 while somebody
// repairs a receiver. What says that the message itself is wrong will not.
func judgeStatus(resp *http.Response) (again bool, err error) {
	const enough = 4096
	said, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	err = fmt.Errorf("the receiver answered %s: %.200s", resp.Status, strings.TrimSpace(string(said)))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return false, err
	}
	return true, err
}
