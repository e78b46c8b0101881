-- A copy of the view page_views. Each run replaces the last three days, because a page view changes while it is read, and
-- events come late; run it with --full-refresh once a week for what came later still.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='day',
    engine='MergeTree()',
    order_by='(day, ping_id)'
) }}

SELECT * FROM {{ source('headrace', 'page_views') }}
{% if is_incremental() %}
WHERE day >= (SELECT max(day) FROM {{ this }}) - 3
{% endif %}
