-- The history as DuckDB holds it: typed columns, moments as timestamps. What is
-- done here is not timed. {dir} is where the Parquet files lie.

CREATE MACRO micros(us) AS make_timestamp(us);

CREATE TABLE regions AS FROM '{dir}/regions.parquet';
CREATE TABLE users AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known, micros(born) AS born) FROM '{dir}/users.parquet';
CREATE TABLE user_vectors AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known) FROM '{dir}/user_vectors.parquet';
CREATE TABLE profiles AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known) FROM '{dir}/travel_onboarding_profiles.parquet';
CREATE TABLE preferences AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known) FROM '{dir}/user_preferences.parquet';
CREATE TABLE items AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known) FROM '{dir}/item_vectors.parquet';
CREATE TABLE recommendations AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known, micros(viewed) AS viewed, micros(clicked) AS clicked, micros(booked) AS booked,
    micros(rejected) AS rejected, micros(created) AS created)
FROM '{dir}/recommendations.parquet';
CREATE TABLE searches AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known, micros(departure) AS departure, micros(searched) AS searched)
FROM '{dir}/search_history.parquet';
CREATE TABLE bookings AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known, micros(confirmed) AS confirmed, micros(created) AS created)
FROM '{dir}/booking_data.parquet';
CREATE TABLE favourites AS
SELECT * REPLACE (micros(v) AS v, micros(known) AS known) FROM '{dir}/favorites.parquet';

-- A text that is missing or empty is UNKNOWN.
CREATE MACRO said(x) AS coalesce(nullif(x, ''), 'UNKNOWN');
-- Whole days from one moment to another, rounded down.
CREATE MACRO days(earlier, later) AS floor(epoch_us(later - earlier) / 86400e6);
