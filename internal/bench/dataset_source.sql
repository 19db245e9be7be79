-- What the section "dataset" puts into the application's tables. What happens
-- is decided by hashes and random(), the moments by the clock: rows are made
-- while ingest follows, so that their versions have a real past.

-- Only the keys are needed, and space on the pages for updates in place.
DROP INDEX "recommendations_userId_createdAt_idx", "recommendations_userVectorId_idx",
    "recommendations_itemVectorId_idx", "search_history_userId_searchedAt_idx", "booking_data_userId_idx";
ALTER TABLE user_vectors SET (fillfactor = 45);
ALTER TABLE item_vectors SET (fillfactor = 20);
ALTER TABLE recommendations SET (fillfactor = 60);

CREATE SCHEMA bench;

-- Ids are uuids, in an order that is none.
CREATE FUNCTION bench.id(kind text, n bigint) RETURNS text IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
    SELECT md5(kind || n::text)::uuid::text
$$;

-- The same number from 0 to below for the same n.
CREATE FUNCTION bench.dice(n bigint, below int) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
    SELECT ((hashint8(n)::bigint + 2147483648) % below)::int
$$;

-- Eight numbers with four decimal places. In plpgsql, which keeps the plan: SQL
-- would be parsed again for each statement that calls it.
CREATE FUNCTION bench.vector() RETURNS jsonb VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    x text := (1e15 + random() * 8.9e15)::bigint;
    y text := (1e15 + random() * 8.9e15)::bigint;
BEGIN
    RETURN '[0.' || substr(x, 1, 4) || ',0.' || substr(x, 5, 4) || ',0.' || substr(x, 9, 4) || ',0.' || substr(x, 13, 4)
        || ',0.' || substr(y, 1, 4) || ',0.' || substr(y, 5, 4) || ',0.' || substr(y, 9, 4) || ',0.' || substr(y, 13, 4) || ']';
END $$;

CREATE FUNCTION bench.now() RETURNS timestamp(3) VOLATILE LANGUAGE sql AS $$
    SELECT clock_timestamp() AT TIME ZONE 'UTC'
$$;

-- What is there before ingest comes: users and items with one version each,
-- three of five searches, two of three bookings, one of two favourites.
CREATE PROCEDURE bench.populate(number_of_users int, number_of_items int) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO users (id, email, password, "dateOfBirth", nationality, "userCategory", created_at, updated_at)
    SELECT bench.id('user', u), u || '@bench.example', 'x', bench.now() - make_interval(days => 7000 + bench.dice(u, 20000)),
        (ARRAY['IT', 'DE', 'FR', 'ES', 'UK', 'US', 'BR', 'JP', 'CN', 'AU', 'ZA', 'AE', 'CH', 'SE', NULL])[1 + bench.dice(u + 7, 15)],
        (CASE WHEN bench.dice(u, 5) = 0 THEN 'BUSINESS' ELSE 'LEISURE' END)::"UserCategory",
        bench.now() - interval '200 days', bench.now() - make_interval(days => 100 + bench.dice(u, 90))
    FROM generate_series(0, number_of_users - 1) u;

    INSERT INTO user_vectors (id, "userId", vector, "primarySegment", "segmentConfidence", "createdAt", "updatedAt")
    SELECT bench.id('vector', u), bench.id('user', u), bench.vector(),
        (ARRAY['cultural_explorer', 'beach_lover', 'city_breaker', 'adventurer', 'foodie', 'family'])[1 + bench.dice(u, 6)],
        round(random()::numeric, 3), bench.now() - interval '199 days', bench.now() - make_interval(days => 95 + bench.dice(u, 90))
    FROM generate_series(0, number_of_users - 1) u;

    INSERT INTO travel_onboarding_profiles (id, "userId", "travelTypes", "globalBudgetRange", "budgetFlexibility",
        "activityLevel", "accommodationLevel", "travelWithChildren", "createdAt", "updatedAt")
    SELECT bench.id('profile', u), bench.id('user', u),
        (enum_range(NULL::"TravelType"))[1 + bench.dice(u, 12):2 + bench.dice(u, 12) + bench.dice(u + 1, 3)],
        CASE WHEN bench.dice(u, 10) > 0 THEN jsonb_build_object('min', 100 * bench.dice(u, 20), 'max', 2000 + 100 * bench.dice(u + 3, 60), 'currency', 'EUR') END,
        (enum_range(NULL::"BudgetFlexibility"))[1 + bench.dice(u, 4)], (enum_range(NULL::"ActivityLevel"))[1 + bench.dice(u, 5)],
        (enum_range(NULL::"AccommodationLevel"))[1 + bench.dice(u + 1, 5)], bench.dice(u, 3) = 0,
        bench.now() - interval '199 days', bench.now() - make_interval(days => 91 + bench.dice(u, 90))
    FROM generate_series(0, number_of_users - 1) u WHERE bench.dice(u, 20) > 0;

    INSERT INTO user_preferences (id, "userId", "budgetRange")
    SELECT bench.id('preferences', u), bench.id('user', u), jsonb_build_object('min', 50 * bench.dice(u, 20), 'max', 1500 + 50 * bench.dice(u + 3, 60), 'currency', 'EUR')
    FROM generate_series(0, number_of_users - 1) u WHERE bench.dice(u + 1, 10) > 0;

    INSERT INTO item_vectors (id, "destinationId", "destinationType", name, country, vector, "popularityScore",
        "bookingCount", "searchCount", "createdAt", "updatedAt")
    SELECT bench.id('item', i), 'dest-' || i, (ARRAY['CITY', 'BEACH', 'MOUNTAIN'])[1 + bench.dice(i, 3)], 'Place ' || i,
        (ARRAY['Italy', 'Spain', 'Japan', 'Peru', 'Kenya'])[1 + bench.dice(i, 5)], bench.vector(), bench.dice(i, 1000) / 10.0,
        bench.dice(i, 300), bench.dice(i, 3000), bench.now() - interval '300 days', bench.now() - interval '99 days'
    FROM generate_series(0, number_of_items - 1) i;

    INSERT INTO search_history
    SELECT * FROM bench.search_of(0, number_of_users, 3) s WHERE s.id IS NOT NULL;
    INSERT INTO booking_data
    SELECT * FROM bench.booking_of(0, number_of_users, 0) b WHERE b.id IS NOT NULL;
    INSERT INTO favorites
    SELECT bench.id('favourite', u), bench.id('user', u), 'DESTINATION', 'dest-' || bench.dice(u, number_of_items), NULL,
        bench.now() - interval '80 days', bench.now() - interval '80 days'
    FROM generate_series(0, number_of_users - 1) u;
    COMMIT;
END $$;

-- A number of past searches of each user of a block.
CREATE FUNCTION bench.search_of(first int, after int, number int) RETURNS SETOF search_history VOLATILE LANGUAGE sql AS $$
    SELECT gen_random_uuid()::text, bench.id('user', u), 's' || u, (ARRAY['FCO', 'MXP', 'CDG', 'FRA', 'MAD', 'LHR', 'JFK'])[1 + floor(random() * 7)::int],
        'XXX', bench.now() + random() * interval '120 days', NULL::timestamp,
        jsonb_build_object('adults', 1 + floor(random() * 3)::int, 'children', floor(random() * 3)::int),
        (ARRAY['ECONOMY', 'PREMIUM', 'BUSINESS', NULL])[1 + floor(random() * 4)::int],
        bench.now() - interval '1 second' - random() * interval '120 days', 10
    FROM generate_series(first, after - 1) u, generate_series(1, number)
$$;

-- A booking of each user of a block, and of every second one more if it is 0;
-- two of three are confirmed.
CREATE FUNCTION bench.booking_of(first int, after int, odd int) RETURNS SETOF booking_data VOLATILE LANGUAGE sql AS $$
    SELECT x.id, bench.id('user', x.u), 'PACKAGE'::"BookingType", x.id,
        (ARRAY['CONFIRMED', 'COMPLETED', 'CANCELLED'])[1 + floor(random() * 3)::int]::"BookingStatus",
        round((50 + random() * 3000)::numeric, 2), 'EUR', '{}'::jsonb, x.at, NULL, x.at - interval '2 hours', x.at
    FROM (SELECT u, gen_random_uuid()::text AS id, bench.now() - interval '1 second' - random() * interval '200 days' AS at
        FROM generate_series(first, after - 1) u WHERE (u + odd) % 2 = 0) x
$$;

-- One wave of changes, in transactions of a block of users each: every vector
-- gets a version (from the second wave on), every item twenty, every user a slate
-- of recommendations; that of the wave before gets its second version, that of
-- the wave before that its third and last.
CREATE PROCEDURE bench.wave(wave int, waves int, slate int, number_of_users int, number_of_items int, block int) LANGUAGE plpgsql AS $$
DECLARE
    first int := 0;
    after int;
    item int := 0; -- items are updated in turn, each twenty times a wave
    until int;
    batch int;
    at timestamp(3);
BEGIN
    WHILE first < number_of_users LOOP
        after := least(first + block, number_of_users);
        until := 20::bigint * number_of_items * after / number_of_users;
        at := bench.now();
        IF wave <= waves THEN
            IF wave > 1 THEN
                UPDATE user_vectors SET vector = bench.vector(), version = version + 1,
                    "segmentConfidence" = round(random()::numeric, 3), "updatedAt" = at
                WHERE id IN (SELECT bench.id('vector', u) FROM generate_series(first, after - 1) u);
            END IF;
            WHILE item < until LOOP
                -- A transaction may reach an item more than once; each time is a version.
                batch := least(until, item + number_of_items);
                UPDATE item_vectors SET vector = bench.vector(), "popularityScore" = round((random() * 100)::numeric, 1),
                    "bookingCount" = "bookingCount" + 1, "searchCount" = "searchCount" + 10, "updatedAt" = at
                WHERE id IN (SELECT bench.id('item', i % number_of_items) FROM generate_series(item, batch - 1) i);
                item := batch;
            END LOOP;
            INSERT INTO recommendations (id, "userId", "userVectorId", "itemVectorId", "destinationId", "destinationName",
                "destinationType", score, confidence, "contextType", "expiresAt", "createdAt", "updatedAt")
            SELECT bench.id('recommendation', n), bench.id('user', u), bench.id('vector', u), bench.id('item', i), 'dest-' || i,
                'Place ' || i, (ARRAY['CITY', 'BEACH', 'MOUNTAIN'])[1 + bench.dice(i, 3)], round(random()::numeric, 4), round(random()::numeric, 4),
                (ARRAY['general', 'weekend', 'homepage', 'email'])[1 + bench.dice(n, 4)], at + interval '14 days', at, at
            FROM (SELECT u, ((wave - 1)::bigint * number_of_users + u) * slate + s AS n,
                    floor(number_of_items * power(random(), 2))::int AS i
                FROM generate_series(first, after - 1) u, generate_series(0, slate - 1) s OFFSET 0) x;
            INSERT INTO search_history SELECT * FROM bench.search_of(first + (after - first) * (wave % 5) / 5, first + (after - first) * (wave % 5 + 1) / 5, 1);
            IF wave % 5 = 0 THEN
                INSERT INTO booking_data SELECT * FROM bench.booking_of(first, after, wave / 5);
                INSERT INTO favorites
                SELECT gen_random_uuid()::text, bench.id('user', u), 'DESTINATION', 'dest-' || wave || '-' || bench.dice(u + wave, number_of_items), NULL, at, at
                FROM generate_series(first, after - 1) u WHERE (u + wave / 5) % 2 = 0;
            END IF;
            IF wave = 7 THEN
                DELETE FROM favorites WHERE id IN (SELECT bench.id('favourite', u) FROM generate_series(first, after - 1, 10) u);
            END IF;
        END IF;
        IF wave - 1 BETWEEN 1 AND waves THEN
            UPDATE recommendations r SET "viewedAt" = CASE WHEN x.fate >= 610 THEN at END,
                status = (CASE WHEN x.fate >= 610 THEN 'VIEWED' ELSE 'GENERATED' END)::"RecommendationStatus", "updatedAt" = at
            FROM bench.slates(wave - 1, slate, number_of_users, first, after) x WHERE r.id = x.id;
        END IF;
        IF wave - 2 BETWEEN 1 AND waves THEN
            UPDATE recommendations r SET "updatedAt" = at, "clickedAt" = CASE WHEN x.fate >= 800 AND x.fate < 965 THEN at END,
                "bookedAt" = CASE WHEN x.fate >= 900 AND x.fate < 965 THEN at END, "rejectedAt" = CASE WHEN x.fate >= 965 THEN at END,
                "userRating" = CASE WHEN x.fate >= 870 AND x.fate < 965 THEN 1 + x.fate % 5 END,
                status = (CASE WHEN x.fate < 610 THEN 'EXPIRED' WHEN x.fate < 800 THEN 'VIEWED' WHEN x.fate < 900 THEN 'CLICKED'
                    WHEN x.fate < 965 THEN 'BOOKED' ELSE 'REJECTED' END)::"RecommendationStatus"
            FROM bench.slates(wave - 2, slate, number_of_users, first, after) x WHERE r.id = x.id;
        END IF;
        COMMIT;
        first := after;
    END LOOP;
END $$;

-- The ids and fates of the recommendations that a wave made for a block.
CREATE FUNCTION bench.slates(wave int, slate int, number_of_users int, first int, after int) RETURNS TABLE (id text, fate int)
IMMUTABLE ROWS 200 LANGUAGE sql AS $$
    SELECT bench.id('recommendation', n), bench.dice(n, 1000)
    FROM (SELECT ((wave - 1)::bigint * number_of_users + u) * slate + s AS n
        FROM generate_series(first, after - 1) u, generate_series(0, slate - 1) s OFFSET 0) x
$$;
