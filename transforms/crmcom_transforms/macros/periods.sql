{# The kinds of period that reports speak of. A week begins on Monday. #}
{% macro period_kinds() %}
    {{ return(['day', 'week', 'month']) }}
{% endmacro %}


{# The first day of the period that a day lies in. #}
{% macro period_start(period, date_day) -%}
    {%- if period == 'day' -%}
        {{ date_day }}
    {%- else -%}
        {{ adapter.dispatch('start_of', 'crmcom_transforms')(period, date_day) }}
    {%- endif -%}
{%- endmacro %}

{% macro default__start_of(period, date_day) -%}
    cast({{ dbt.date_trunc(period, date_day) }} as date)
{%- endmacro %}

{% macro spark__start_of(period, date_day) -%}
    trunc({{ date_day }}, '{{ period }}')
{%- endmacro %}


{# Its last day. #}
{% macro period_end(period, date_day) -%}
    {%- if period == 'day' -%}
        {{ date_day }}
    {%- else -%}
        {{ crmcom_transforms.add_days(crmcom_transforms.add_to_date(
            period, 1, crmcom_transforms.period_start(period, date_day)
        ), -1) }}
    {%- endif -%}
{%- endmacro %}


{% macro is_first_day(period, date_day) -%}
    {{ date_day }} = {{ crmcom_transforms.period_start(period, date_day) }}
{%- endmacro %}


{# The last day of its period that a report as of `as_of` knows of. #}
{% macro last_day(period, date_day, as_of) -%}
    {{ crmcom_transforms.smaller_of(crmcom_transforms.period_end(period, date_day), as_of) }}
{%- endmacro %}


{% macro is_last_day(period, date_day, as_of) -%}
    {{ date_day }} = {{ crmcom_transforms.last_day(period, date_day, as_of) }}
{%- endmacro %}
