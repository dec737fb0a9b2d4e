package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
)

// maxBytes bounds a request: the conversation has a few kilobytes.
const maxBytes = 1 << 20

// An api is how a provider writes conversations.
type api interface {
	key(http.Header) string
	read(body []byte) (request, error)
	turn(turn) any
	failure(reason string) any
}

// serve answers requests of one API.
func serve(m model, a api, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reply, status, err := answer(m, a, w, r)
		var body any
		if err != nil {
			log.Warn("the script refuses a request", slog.Any("error", err))
			body = a.failure(err.Error())
		} else {
			body = a.turn(reply)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client has gone, and nobody else wants it
	})
}

func answer(m model, a api, w http.ResponseWriter, r *http.Request) (turn, int, error) {
	if key := a.key(r.Header); key != Key {
		return turn{}, http.StatusUnauthorized, errors.New("the key is not that of the script")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		return turn{}, http.StatusBadRequest, err
	}
	request, err := a.read(body)
	if err != nil {
		return turn{}, http.StatusBadRequest, err
	}
	reply, err := m.reply(request)
	if err != nil {
		return turn{}, http.StatusBadRequest, err
	}
	return reply, http.StatusOK, nil
}

// text is a content that is a string, or parts of which each has a text.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		return json.Unmarshal(data, (*string)(t)) // null leaves it empty
	}
	var parts []struct{ Type, Text string }
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		if part.Type != "text" {
			return fmt.Errorf("a part of type %q in place of a text", part.Type)
		}
		*t += text(part.Text)
	}
	return nil
}
