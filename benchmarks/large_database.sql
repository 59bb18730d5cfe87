-- Fills a migrated database as years of work would. A temporary table `size` says how large: cards,
-- of_one (so many of them are cards of one consumer and virtual cards of one card) and terms.
-- Set by set and without a write-ahead log, because it is dropped when the plans were looked at.
-- Each row is as small as it may be: the plans hang on how many there are.

INSERT INTO lane_in (source, partition, next_offset)
    SELECT source, lane, 1000
    FROM generate_series(0, 11) AS lane, unnest(ARRAY['commands', 'replies']) AS source;
INSERT INTO lane_out (partition, last_seq)
    SELECT lane, cards / 12 FROM size, generate_series(0, 11) AS lane;
INSERT INTO lane_pub (partition, published_seq)
    SELECT lane, cards / 12 - 100 FROM size, generate_series(0, 11) AS lane;

INSERT INTO card_product (issuer_id, card_product_id, terms, version, last_hash, command_count,
        recent_commands)
    SELECT 'BANK000001', 'product-' || number, terms, 1, '', 1, ''
    FROM size, generate_series(0, 999) AS number;
INSERT INTO consumer (issuer_id, consumer_id, state, version, last_hash, command_count,
        recent_commands)
    SELECT 'BANK000001', 'consumer-' || number, 'ACTIVE', 1, '', 1, ''
    FROM size, generate_series(0, cards / 4) AS number;

-- One in five has ended; of those that are of one consumer and one card, nearly all.
INSERT INTO card (issuer_id, card_id, incarnation, state, suspensions, locks, ongoing_operation,
        exp, last4, consumer_id, card_product_id, origin, terms, name, real_card_id,
        real_card_incarnation, digital_cards_relinked, version, last_hash, command_count,
        recent_commands, has_ended)
    SELECT 'BANK000001', 'card-' || number, 1, CASE WHEN ended THEN 'DELETED' ELSE 'ACTIVE' END,
        '', '', 'NONE', '1130', '0000',
        'consumer-' || CASE WHEN of_that_one THEN 0 ELSE 1 + number % (cards / 4) END,
        'product-' || number % 1000, 'ISSUED', terms, '', CASE WHEN of_that_one THEN 'card-1' END,
        CASE WHEN of_that_one THEN 1 END, false, 1, '', 40, sha256(number::text::bytea), ended
    FROM size, generate_series(1, cards) AS number,
        LATERAL (SELECT number > cards - of_one AS of_that_one) AS kind,
        LATERAL (SELECT number % 1000 <> 0 AND (of_that_one OR number % 5 = 0) AS ended) AS life;

INSERT INTO timer (issuer_id, card_id, kind, due_ms, command_id)
    SELECT 'BANK000001', 'card-' || number * 4, 'EXPIRE', number::bigint * 1000, 'EXPIRE:1130:1'
    FROM size, generate_series(1, cards / 4) AS number;
INSERT INTO pan (issuer_id, card_id, incarnation, key_id, sealed)
    SELECT 'BANK000001', 'card-' || number * 4, 1, 'data-1', ''
    FROM size, generate_series(1, cards / 4) AS number;
INSERT INTO pan_fingerprint (issuer_id, fingerprint, card_id, incarnation)
    SELECT 'BANK000001', sha256(number::text::bytea),
        CASE WHEN number % 5 > 0 THEN 'card-' || number * 4 END,
        CASE WHEN number % 5 > 0 THEN 1 END
    FROM size, generate_series(1, cards / 4) AS number;
INSERT INTO past_command (issuer_id, operation_id, content_hash, subject_key, last_time_ms)
    SELECT 'BANK000001', md5('past' || number)::uuid, '',
        CASE WHEN number % 100 = 0 THEN 'BANK000001/unknown-' || number % 100000 END,
        CASE WHEN number % 100 = 0 THEN number END
    FROM size, generate_series(1, cards / 2) AS number;

INSERT INTO pending_operation (issuer_id, operation_id, card_id, kind, command, content_hash,
        incarnation, start_time_ms, deadline_ms, command_partition, command_offset)
    SELECT 'BANK000001', md5('pending' || number)::uuid, 'card-' || number * 10,
        'CLICK_TO_PAY_ENROLMENT', '{}', '', 1, 0, number, number % 12, number
    FROM size, generate_series(1, cards / 100) AS number;
INSERT INTO dispatch (partition, command_offset, ordinal, topic, key, value)
    SELECT number % 12, number, 1, 'requests', 'BANK000001/card-' || number, ''
    FROM size, generate_series(1, cards / 100) AS number;
INSERT INTO cascade (partition, issuer_id, operation_id, consumer_id, real_card_id,
        real_card_incarnation, reason_code, recorded_at)
    SELECT number % 12, 'BANK000001', md5('cascade' || number)::uuid,
        CASE WHEN number > 1 THEN 'consumer-' || number - 2 END,
        CASE WHEN number = 1 THEN 'card-1' END, CASE WHEN number = 1 THEN 1 END,
        'CLOSED_ACCOUNT', now() + number * interval '1 second'
    FROM size, generate_series(1, cards / 1000) AS number;
INSERT INTO dead_letter (recorded_at, source, partition, command_offset, code, error, key, value,
        headers)
    SELECT now() - (cards / 20 - number) * (weeks_back * interval '140 days' / cards),
        CASE WHEN number % 10 = 0 THEN 'replies' ELSE 'commands' END, number % 12, number,
        'NOT_JSON', '', '', '', '[]'
    FROM size, generate_series(1, cards / 20) AS number;
INSERT INTO intake_batch (recorded_at, source, partition, from_offset, to_offset, records,
        operations, duplicates, ignored, dead_letters, foreign_partition)
    SELECT now() - (cards / 20 - number) * (weeks_back * interval '140 days' / cards), 'commands',
        number % 12, number * 10, number * 10 + 10, 10, 10, 0, 0, 0, 0
    FROM size, generate_series(1, cards / 20) AS number;

-- The log: an operation for each card, evenly over its weeks until now; card-2 has many.
INSERT INTO operation (recorded_at, lane, seq, id, aggregatetype, aggregateid, type, event_time_ms,
        payload, issuer_id, operation_id, caused, content_hash, status, start_time, expires_at)
    SELECT at, number % 12, number / 12 + 1, md5('event' || number)::uuid, 'card',
        'BANK000001/card-' || CASE WHEN number % 1000 = 0 THEN 2 ELSE number END,
        '', 0, '', 'BANK000001', md5('operation' || number)::uuid, false, '', 'SUCCESSFUL', at,
        at + interval '3 months'
    FROM size, generate_series(0, cards - 1) AS number,
        LATERAL (
            SELECT now() - (cards - number) * (weeks_back * interval '7 days' / cards) AS at
        ) AS moment;
