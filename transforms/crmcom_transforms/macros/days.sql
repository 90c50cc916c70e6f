{# The local date of a UTC timestamp, by `crmcom_report_timezone`. The only place that localises. #}
{% macro local_date(timestamp_utc) -%}
    {{ adapter.dispatch('local_date', 'crmcom_transforms')(
        timestamp_utc, var('crmcom_report_timezone', 'UTC')
    ) }}
{%- endmacro %}

{% macro default__local_date(timestamp_utc, timezone) -%}
    {%- if timezone == 'UTC' -%}
        cast({{ timestamp_utc }} as date)
    {%- else -%}
        cast({{ timestamp_utc }} at time zone 'UTC' at time zone '{{ timezone }}' as date)
    {%- endif -%}
{%- endmacro %}


{#
    The UTC timestamp at which a local day begins. Where a zone's clocks change at midnight it
    may be off by the change: use it with a margin, to read less, and let `local_date` decide.
#}
{% macro local_midnight(date_day) -%}
    {{ adapter.dispatch('local_midnight', 'crmcom_transforms')(
        date_day, var('crmcom_report_timezone', 'UTC')
    ) }}
{%- endmacro %}

{% macro default__local_midnight(date_day, timezone) -%}
    {%- if timezone == 'UTC' -%}
        cast({{ date_day }} as timestamp)
    {%- else -%}
        (cast({{ date_day }} as timestamp) at time zone '{{ timezone }}' at time zone 'UTC')
    {%- endif -%}
{%- endmacro %}


{# Whole days from one date to a later one. #}
{% macro days_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'day') }} as integer)
{%- endmacro %}


{% macro add_days(date_day, days) -%}
    cast({{ dbt.dateadd('day', days, date_day) }} as date)
{%- endmacro %}


{% macro add_years(date_day, years) -%}
    cast({{ dbt.dateadd('year', years, date_day) }} as date)
{%- endmacro %}


{% macro add_hours(moment, hours) -%}
    {{ dbt.dateadd('hour', hours, moment) }}
{%- endmacro %}


{# A condition: the row was loaded by `crmcom_known_at`. #}
{% macro is_known(synced_at) -%}
    {%- set known_at = var('crmcom_known_at', none) -%}
    {%- if known_at is none -%}
        1 = 1
    {%- else -%}
        {{ synced_at }} <= cast('{{ known_at }}' as timestamp)
    {%- endif -%}
{%- endmacro %}


{# `crmcom_as_of` as a date, null where the latest observed day is meant. #}
{% macro asked_as_of() -%}
    {%- set as_of = var('crmcom_as_of', none) -%}
    cast({{ 'null' if as_of is none else "'" ~ as_of ~ "'" }} as date)
{%- endmacro %}
