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

{% macro spark__local_date(timestamp_utc, timezone) -%}
    cast(convert_timezone('UTC', '{{ timezone }}', {{ timestamp_utc }}) as date)
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

{% macro spark__local_midnight(date_day, timezone) -%}
    convert_timezone('{{ timezone }}', 'UTC', cast({{ date_day }} as timestamp))
{%- endmacro %}


{# Whole days from one date to a later one. #}
{% macro days_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'day') }} as integer)
{%- endmacro %}


{% macro add_days(date_day, days) -%}
    {{ crmcom_transforms.add_to_date('day', days, date_day) }}
{%- endmacro %}


{% macro add_years(date_day, years) -%}
    {{ crmcom_transforms.add_to_date('year', years, date_day) }}
{%- endmacro %}


{# A date so many days, weeks, months or years later. #}
{% macro add_to_date(part, count, date_day) -%}
    {{ adapter.dispatch('add_to_date', 'crmcom_transforms')(part, count, date_day) }}
{%- endmacro %}

{% macro default__add_to_date(part, count, date_day) -%}
    cast({{ dbt.dateadd(part, count, date_day) }} as date)
{%- endmacro %}

{# dbt's own goes through the session's time zone on Spark. #}
{% macro spark__add_to_date(part, count, date_day) -%}
    cast({{ date_day }} + make_interval({{ {
        'year': count, 'month': '0, ' ~ count, 'week': '0, 0, ' ~ count, 'day': '0, 0, 0, ' ~ count
    }[part] }}) as date)
{%- endmacro %}


{% macro add_hours(moment, hours) -%}
    {{ adapter.dispatch('add_hours', 'crmcom_transforms')(moment, hours) }}
{%- endmacro %}

{% macro default__add_hours(moment, hours) -%}
    {{ dbt.dateadd('hour', hours, moment) }}
{%- endmacro %}

{# dbt's own loses what is less than a second on Spark. #}
{% macro spark__add_hours(moment, hours) -%}
    ({{ moment }} + make_dt_interval(0, {{ hours }}))
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


{# A condition: the day is one of those from `first_day` to `last_day`; none: any. #}
{% macro is_within(date_day, first_day, last_day) -%}
    {%- if first_day is none -%}
        1 = 1
    {%- else -%}
        {{ date_day }} >= {{ first_day }} and {{ date_day }} <= {{ last_day }}
    {%- endif -%}
{%- endmacro %}


{#
    A condition that spares reading old observations: of each tenant only those since a day that
    `days` selects, as (source_relation, first_day), and of the others none. The bounds are
    literals, so that a scan skips what is older; a margin allows for clocks that change at
    midnight. What it lets through is for the model to judge.
#}
{% macro read_since(days) -%}
    {%- set since = run_query(days).rows if execute else [] -%}
    {%- if not execute -%}
        1 = 1
    {%- elif not since -%}
        1 = 0
    {%- else -%}
        (
        {%- for tenant, day in since %}
            {{ 'or ' if not loop.first }}(
                source_relation = {{ crmcom_transforms.text_literal(tenant) }}
                and observed_at >= {{ crmcom_transforms.add_hours(
                    crmcom_transforms.local_midnight("cast('" ~ day ~ "' as date)"), -3
                ) }}
            )
        {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}


{#
    The same where old observations count too, but only those of some days: `days` selects them,
    as (source_relation, day). Days less than a week apart are read with those between them, which
    keeps the condition short: it is asked of every row that a scan does not skip.
#}
{% macro read_on(days) -%}
    {%- set spans = [] -%}
    {%- set in_order = 'select * from (' ~ days ~ ') as days order by 1, 2' -%}
    {%- for tenant, day in (run_query(in_order).rows if execute else []) -%}
        {%- if spans and spans[-1][0] == tenant and (day - spans[-1][2]).days < 7 -%}
            {%- do spans.append((tenant, spans.pop()[1], day)) -%}
        {%- else -%}
            {%- do spans.append((tenant, day, day)) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not execute -%}
        1 = 1
    {%- elif not spans -%}
        1 = 0
    {%- else -%}
        (
        {%- for tenant, first, last in spans %}
            {{ 'or ' if not loop.first }}(
                source_relation = {{ crmcom_transforms.text_literal(tenant) }}
                and observed_at >= {{ crmcom_transforms.add_hours(
                    crmcom_transforms.local_midnight(crmcom_transforms.sql_date(first)), -3
                ) }}
                and observed_at < {{ crmcom_transforms.add_hours(
                    crmcom_transforms.local_midnight(crmcom_transforms.sql_date(last, 1)), 3
                ) }}
            )
        {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}
