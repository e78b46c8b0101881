-- What each content had in each week. Built on the copy, so that it costs no FINAL.
{{ config(engine='MergeTree()', order_by='(week, content_id)') }}

SELECT
    toStartOfWeek(day, 1) AS week,
    content_id,
    any(content_title) AS content_title,
    count() AS page_views,
    uniqExactIf(anon_id, anon_id != '') AS visitors,
    sum(active_s) AS active_s
FROM {{ ref('page_views_kept') }}
WHERE NOT is_bot AND content_id != ''
GROUP BY week, content_id
